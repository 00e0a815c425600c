//! A model bound to the numbers of a symbol table: what the evaluator walks.

use std::sync::Arc;

use meridian_condition::Condition;
use meridian_model::TypeSystem;
use meridian_model::typesystem::{Facet as ModelFacet, Relation as ModelRelation, Rewrite};

use crate::recursion::{self, Recursion};
use crate::stands::{Above, Place, place};
use crate::symbols::{RelationId, Symbols, TypeId};

/// A relation of a type.
pub(crate) type Kind = (TypeId, RelationId);

/// A model by numbers. Valid with every later version of the symbol table it was compiled with.
#[derive(Debug, Default)]
pub struct Program {
    /// By type number.
    types: Vec<Option<Type>>,
    pub(crate) above: Above,
}

#[derive(Debug)]
struct Type {
    /// The type's own bit in sets of this program's types.
    bit: u128,
    /// By relation number.
    relations: Box<[Option<Relation>]>,
}

#[derive(Debug)]
pub(crate) struct Relation {
    /// Who can stand in it at all.
    pub(crate) place: Place,
    /// Who can stand in the usersets among its own tuples.
    pub(crate) userset_place: Place,
    /// The recursion that it is part of.
    pub(crate) recursion: Option<Recursion>,
    pub(crate) rewrite: Node,
    objects: Box<[TypeId]>,
    wildcards: Box<[TypeId]>,
    usersets: Box<[(TypeId, RelationId)]>,
    /// The restrictions with a condition.
    conditioned: Box<[Conditioned]>,
    /// Only own tuples, and none of them a userset: it is answered by one look-up.
    pub(crate) leaf: bool,
}

#[derive(Debug)]
pub(crate) enum Node {
    This,
    Computed(RelationId),
    FromParent {
        tupleset: RelationId,
        computed: RelationId,
        place: Place,
    },
    Union(Box<[Self]>),
    Intersection(Box<[Self]>),
    Exclusion(Box<(Self, Self)>),
}

/// A type restriction with a condition.
#[derive(Debug)]
struct Conditioned {
    facet: Facet,
    name: Box<str>,
    /// `None` for an inline condition.
    condition: Option<Arc<Condition>>,
}

/// Which subjects a restriction admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Facet {
    Object(TypeId),
    Wildcard(TypeId),
    Userset(TypeId, RelationId),
}

impl Relation {
    /// Whether tuples without a condition are admitted.
    pub(crate) fn admits(&self, facet: Facet) -> bool {
        match facet {
            Facet::Object(of) => self.objects.contains(&of),
            Facet::Wildcard(of) => self.wildcards.contains(&of),
            Facet::Userset(of, relation) => self.usersets.contains(&(of, relation)),
        }
    }

    /// Whether tuples with that condition are admitted; the model's condition, none for an inline one.
    pub(crate) fn admits_bound(&self, facet: Facet, name: &str) -> Option<Option<&Condition>> {
        let restriction = self
            .conditioned
            .iter()
            .find(|restriction| restriction.facet == facet && *restriction.name == *name)?;
        Some(restriction.condition.as_deref())
    }

    /// Whether any tuples with such a subject are admitted.
    pub(crate) fn admits_any(&self, facet: Facet) -> bool {
        self.admits(facet)
            || self
                .conditioned
                .iter()
                .any(|restriction| restriction.facet == facet)
    }

    /// The facets that are admitted, with or without a condition; some of them twice.
    pub(crate) fn facets(&self) -> impl Iterator<Item = Facet> {
        let objects = self.objects.iter().copied().map(Facet::Object);
        let wildcards = self.wildcards.iter().copied().map(Facet::Wildcard);
        let usersets = self.usersets.iter();
        let usersets = usersets.map(|(of, relation)| Facet::Userset(*of, *relation));
        let conditioned = self.conditioned.iter().map(|restriction| restriction.facet);
        objects.chain(wildcards).chain(usersets).chain(conditioned)
    }

    /// Whether tuples are admitted that are bound to a condition.
    pub(crate) fn has_conditions(&self) -> bool {
        !self.conditioned.is_empty()
    }

    /// Whether usersets are admitted.
    pub(crate) fn has_usersets(&self) -> bool {
        !self.usersets.is_empty() || self.has_bound_usersets()
    }

    /// Whether usersets are admitted that are bound to a condition.
    pub(crate) fn has_bound_usersets(&self) -> bool {
        let is_userset = |of: &Conditioned| matches!(of.facet, Facet::Userset(..));
        self.conditioned.iter().any(is_userset)
    }
}

impl Node {
    /// Calls `visit` for each leaf, left to right.
    pub(crate) fn for_each_leaf<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        match self {
            Self::This | Self::Computed(_) | Self::FromParent { .. } => visit(self),
            Self::Union(children) | Self::Intersection(children) => {
                children.iter().for_each(|child| child.for_each_leaf(visit));
            }
            Self::Exclusion(of) => {
                of.0.for_each_leaf(visit);
                of.1.for_each_leaf(visit);
            }
        }
    }

    /// Calls `visit` for each `computed from tupleset`, with both relations and its place.
    fn for_each_parent(&mut self, visit: &mut impl FnMut(RelationId, RelationId, &mut Place)) {
        match self {
            Self::This | Self::Computed(_) => {}
            Self::FromParent {
                tupleset,
                computed,
                place,
            } => visit(*tupleset, *computed, place),
            Self::Union(children) | Self::Intersection(children) => children
                .iter_mut()
                .for_each(|child| child.for_each_parent(visit)),
            Self::Exclusion(of) => {
                of.0.for_each_parent(visit);
                of.1.for_each_parent(visit);
            }
        }
    }
}

impl Program {
    /// Compiles a model, adding its names to the table. `None` when the table is full (65,536 names of either kind).
    pub fn compile(types: &TypeSystem, symbols: &mut Symbols) -> Option<Self> {
        let mut program = Self::default();
        for (index, (name, definition)) in (0..).zip(types.types()) {
            let id = usize::from(symbols.add_type(name)?.0);
            let mut relations: Vec<Option<Relation>> = Vec::new();
            for (name, relation) in &definition.relations {
                let at = usize::from(symbols.add_relation(name)?.0);
                relations.resize_with(relations.len().max(at + 1), || None);
                if let Some(slot) = relations.get_mut(at) {
                    *slot = Some(compile_relation(types, relation, symbols)?);
                }
            }
            program
                .types
                .resize_with(program.types.len().max(id + 1), || None);
            if let Some(slot) = program.types.get_mut(id) {
                *slot = Some(Type {
                    bit: 1_u128.checked_shl(index)?,
                    relations: relations.into(),
                });
            }
        }
        place(&mut program);
        recursion::mark(&mut program);
        Some(program)
    }

    pub(crate) fn relation(&self, object_type: TypeId, relation: RelationId) -> Option<&Relation> {
        self.of_type(object_type)?
            .relations
            .get(usize::from(relation.0))?
            .as_ref()
    }

    fn of_type(&self, object_type: TypeId) -> Option<&Type> {
        self.types.get(usize::from(object_type.0))?.as_ref()
    }

    /// A type as a set of types; empty for one that is not in the model.
    pub(crate) fn bit(&self, object_type: TypeId) -> u128 {
        self.of_type(object_type).map_or(0, |of| of.bit)
    }

    /// Every relation, with its type.
    pub(crate) fn relations(&self) -> impl Iterator<Item = (TypeId, &Relation)> {
        (0..).map(TypeId).zip(&self.types).flat_map(|(id, of)| {
            let relations = of.iter().flat_map(|of| of.relations.iter().flatten());
            relations.map(move |relation| (id, relation))
        })
    }

    /// Every relation, by type and number.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        (0..).map(TypeId).zip(&self.types).flat_map(|(id, of)| {
            let relations = of
                .iter()
                .flat_map(|of| (0..).map(RelationId).zip(&of.relations));
            relations.filter_map(move |(relation, definition)| {
                definition.as_ref().map(|_| (id, relation))
            })
        })
    }

    /// Calls `visit` for every relation.
    pub(crate) fn for_each_relation(&mut self, visit: &mut impl FnMut(Kind, &mut Relation)) {
        for (id, of) in (0..).map(TypeId).zip(&mut self.types) {
            let relations = of
                .iter_mut()
                .flat_map(|of| (0..).map(RelationId).zip(&mut of.relations));
            for (relation, definition) in relations {
                if let Some(definition) = definition {
                    visit((id, relation), definition);
                }
            }
        }
    }

    /// What a step through a userset or a parent takes from the depth limit: nothing within a recursion.
    pub(crate) fn step(&self, from: &Relation, (object_type, relation): Kind) -> u32 {
        u32::from(!self.recurs(from, (object_type, relation)))
    }

    /// Whether a relation leads on within its recursion there.
    pub(crate) fn recurs(&self, from: &Relation, (object_type, relation): Kind) -> bool {
        let to = || self.relation(object_type, relation)?.recursion;
        from.recursion.is_some() && from.recursion == to()
    }

    /// Calls `visit` for each place, those of a `computed from tupleset` with their type and both relations.
    pub(crate) fn for_each_place(
        &mut self,
        visit: &mut impl FnMut(Option<(TypeId, RelationId, RelationId)>, &mut Place),
    ) {
        for (id, of) in (0..).map(TypeId).zip(&mut self.types) {
            for relation in of
                .iter_mut()
                .flat_map(|of| of.relations.iter_mut().flatten())
            {
                visit(None, &mut relation.place);
                visit(None, &mut relation.userset_place);
                relation
                    .rewrite
                    .for_each_parent(&mut |tupleset, computed, place| {
                        visit(Some((id, tupleset, computed)), place);
                    });
            }
        }
    }
}

fn compile_relation(
    types: &TypeSystem,
    relation: &ModelRelation,
    symbols: &mut Symbols,
) -> Option<Relation> {
    let (mut objects, mut wildcards, mut usersets) = (Vec::new(), Vec::new(), Vec::new());
    let mut conditioned = Vec::new();
    for restriction in &relation.restrictions {
        let of = symbols.add_type(&restriction.type_name)?;
        let facet = match &restriction.facet {
            ModelFacet::Object => Facet::Object(of),
            ModelFacet::Wildcard => Facet::Wildcard(of),
            ModelFacet::Userset(relation) => Facet::Userset(of, symbols.add_relation(relation)?),
        };
        match (&restriction.condition, facet) {
            (Some(name), facet) => conditioned.push(Conditioned {
                facet,
                name: name.clone(),
                condition: types.condition(name).cloned(),
            }),
            (None, Facet::Object(of)) => objects.push(of),
            (None, Facet::Wildcard(of)) => wildcards.push(of),
            (None, Facet::Userset(of, relation)) => usersets.push((of, relation)),
        }
    }
    let rewrite = compile_rewrite(&relation.rewrite, symbols)?;
    let mut compiled = Relation {
        place: Place::default(),
        userset_place: Place::default(),
        recursion: None,
        rewrite,
        objects: objects.into(),
        wildcards: wildcards.into(),
        usersets: usersets.into(),
        conditioned: conditioned.into(),
        leaf: false,
    };
    compiled.leaf = matches!(compiled.rewrite, Node::This) && !compiled.has_usersets();
    Some(compiled)
}

fn compile_rewrite(rewrite: &Rewrite, symbols: &mut Symbols) -> Option<Node> {
    let mut children = |children: &[Rewrite]| {
        children
            .iter()
            .map(|child| compile_rewrite(child, symbols))
            .collect::<Option<Box<[_]>>>()
    };
    Some(match rewrite {
        Rewrite::This => Node::This,
        Rewrite::Computed(relation) => Node::Computed(symbols.add_relation(relation)?),
        Rewrite::FromParent { tupleset, computed } => Node::FromParent {
            tupleset: symbols.add_relation(tupleset)?,
            computed: symbols.add_relation(computed)?,
            place: Place::default(),
        },
        Rewrite::Union(of) => Node::Union(children(of)?),
        Rewrite::Intersection(of) => Node::Intersection(children(of)?),
        Rewrite::Exclusion(of) => Node::Exclusion(Box::new((
            compile_rewrite(&of.0, symbols)?,
            compile_rewrite(&of.1, symbols)?,
        ))),
    })
}
