//! A model bound to the numbers of a symbol table: what the evaluator walks.

use meridian_model::TypeSystem;
use meridian_model::typesystem::{Facet, Relation as ModelRelation, Rewrite};

use crate::symbols::{RelationId, Symbols, TypeId};

/// A model by numbers. Valid with every later version of the symbol table it was compiled with.
#[derive(Debug, Default)]
pub struct Program {
    /// By type number; within, by relation number.
    types: Vec<Option<Box<[Option<Relation>]>>>,
}

#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) rewrite: Node,
    objects: Box<[TypeId]>,
    wildcards: Box<[TypeId]>,
    usersets: Box<[(TypeId, RelationId)]>,
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
    },
    Union(Box<[Self]>),
    Intersection(Box<[Self]>),
    Exclusion(Box<(Self, Self)>),
}

impl Relation {
    pub(crate) fn admits_object(&self, object_type: TypeId) -> bool {
        self.objects.contains(&object_type)
    }

    pub(crate) fn admits_wildcard(&self, object_type: TypeId) -> bool {
        self.wildcards.contains(&object_type)
    }

    pub(crate) fn admits_userset(&self, object_type: TypeId, relation: RelationId) -> bool {
        self.usersets.contains(&(object_type, relation))
    }

    /// The types whose objects it admits.
    pub(crate) fn objects(&self) -> impl Iterator<Item = TypeId> {
        self.objects.iter().copied()
    }

    /// The usersets it admits.
    pub(crate) fn usersets(&self) -> impl Iterator<Item = (TypeId, RelationId)> {
        self.usersets.iter().copied()
    }

    pub(crate) fn has_usersets(&self) -> bool {
        !self.usersets.is_empty()
    }
}

impl Program {
    /// Compiles a model, adding its names to the table. `None` when the table is full (65,536 names of either kind).
    pub fn compile(types: &TypeSystem, symbols: &mut Symbols) -> Option<Self> {
        let mut program = Self::default();
        for (name, definition) in types.types() {
            let id = usize::from(symbols.add_type(name)?.0);
            let mut relations: Vec<Option<Relation>> = Vec::new();
            for (name, relation) in &definition.relations {
                let at = usize::from(symbols.add_relation(name)?.0);
                relations.resize_with(relations.len().max(at + 1), || None);
                if let Some(slot) = relations.get_mut(at) {
                    *slot = Some(compile_relation(relation, symbols)?);
                }
            }
            program
                .types
                .resize_with(program.types.len().max(id + 1), || None);
            if let Some(slot) = program.types.get_mut(id) {
                *slot = Some(relations.into());
            }
        }
        Some(program)
    }

    pub(crate) fn relation(&self, object_type: TypeId, relation: RelationId) -> Option<&Relation> {
        self.types
            .get(usize::from(object_type.0))?
            .as_ref()?
            .get(usize::from(relation.0))?
            .as_ref()
    }
}

fn compile_relation(relation: &ModelRelation, symbols: &mut Symbols) -> Option<Relation> {
    let (mut objects, mut wildcards, mut usersets) = (Vec::new(), Vec::new(), Vec::new());
    for restriction in &relation.restrictions {
        let object_type = symbols.add_type(&restriction.type_name)?;
        match &restriction.facet {
            Facet::Object => objects.push(object_type),
            Facet::Wildcard => wildcards.push(object_type),
            Facet::Userset(relation) => {
                usersets.push((object_type, symbols.add_relation(relation)?))
            }
        }
    }
    let rewrite = compile_rewrite(&relation.rewrite, symbols)?;
    let leaf = matches!(rewrite, Node::This) && usersets.is_empty();
    Some(Relation {
        rewrite,
        objects: objects.into(),
        wildcards: wildcards.into(),
        usersets: usersets.into(),
        leaf,
    })
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
        },
        Rewrite::Union(of) => Node::Union(children(of)?),
        Rewrite::Intersection(of) => Node::Intersection(children(of)?),
        Rewrite::Exclusion(of) => Node::Exclusion(Box::new((
            compile_rewrite(&of.0, symbols)?,
            compile_rewrite(&of.1, symbols)?,
        ))),
    })
}
