//! Where the model lets a user stand at all.
//!
//! A relation whose own tuples can name no such user, and that is computed from nothing that can, is false whatever is
//! stored. As upstream it is not looked at, nor is any condition on its tuples. So less is read, and an edge needs to hold
//! less to decide.
//!
//! Of each place in a model it is worked out once, when the model is compiled, which types' users can stand there: a bit for
//! each type. For usersets, of which there can be thousands of kinds, it is found for each question, from the asked kind
//! upwards.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use meridian_model::typesystem::MAX_TYPES;

use crate::program::{Facet, Node, Program, Relation};
use crate::symbols::{RelationId, TypeId};

/// Somewhere that users can stand: a relation, the usersets among its own tuples, or a `computed from tupleset`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    number: u32,
    /// The types whose objects or wildcard can stand here, each by its bit in the program; and [`BOUND`].
    types: u128,
}

/// Of a place, beside the types: tuples that are bound to a condition can be met there or below. Models have at most a
/// hundred types.
const BOUND: u128 = 1 << 127;
const _: () = assert!(MAX_TYPES < 127);

impl Place {
    /// Whether tuples that are bound to a condition can be met there or below.
    pub(crate) fn meets_conditions(self) -> bool {
        self.types & BOUND != 0
    }
}

/// Of each place, by number, those in which all who stand there stand too.
#[derive(Debug, Default)]
pub(crate) struct Above(Vec<Vec<u32>>);

/// Where the asked user can stand.
#[derive(Debug, Default)]
pub(crate) struct Stands {
    is_userset: bool,
    types: u128,
    /// For a userset, by the number of the place.
    places: Vec<bool>,
}

impl Stands {
    /// Finds where objects and the wildcard of a type can stand, or usersets of its relation.
    pub(crate) fn find(&mut self, program: &Program, of: TypeId, userset: Option<RelationId>) {
        self.is_userset = userset.is_some();
        self.types = program.bit(of);
        let Some(relation) = userset else {
            return;
        };
        let Above(above) = &program.above;
        self.places.clear();
        self.places.resize(above.len(), false);
        let start = program.relation(of, relation);
        let mut open: Vec<u32> = start.map(|start| start.place.number).into_iter().collect();
        while let Some(number) = open.pop() {
            if let Some(known) = self.places.get_mut(number as usize)
                && !std::mem::replace(known, true)
            {
                open.extend(above.get(number as usize).into_iter().flatten());
            }
        }
    }

    /// Whether the user can stand there.
    pub(crate) fn can(&self, place: Place) -> bool {
        if self.is_userset {
            let known = self.places.get(place.number as usize);
            known.copied().unwrap_or_default()
        } else {
            self.types & place.types != 0
        }
    }
}

/// A `computed from tupleset` of a type, which is one place wherever it stands there.
type FromParent = (TypeId, RelationId, RelationId);

/// Works out the places of a program, which has none yet.
pub(crate) fn place(program: &mut Program) {
    let (count, from_parents) = number(program);
    let mut above = Above(vec![Vec::new(); count as usize]);
    let mut types = vec![0; count as usize];
    for (of, relation) in program.relations() {
        own(program, of, relation, &mut above, &mut types);
    }
    for (place, (of, tupleset, computed)) in from_parents {
        let Some(parents) = program.relation(of, tupleset) else {
            continue;
        };
        note_conditions(parents, place, &mut types);
        for facet in parents.facets() {
            if let Facet::Object(parent) = facet
                && let Some(lower) = program.relation(parent, computed)
            {
                above.add(lower.place, place);
            }
        }
    }
    above.lift(&mut types);
    program.for_each_place(&mut |_, place| {
        let types = types.get(place.number as usize);
        place.types = types.copied().unwrap_or(u128::MAX);
    });
    program.above = above;
}

/// Numbers the places; returns how many there are, and those of a `computed from tupleset`.
fn number(program: &mut Program) -> (u32, Vec<(Place, FromParent)>) {
    let mut known = HashMap::<FromParent, Place, FixedState>::default();
    let mut count = 0;
    let mut next = || {
        let number = count;
        count += 1;
        Place { number, types: 0 }
    };
    program.for_each_place(&mut |of, place| {
        *place = match of {
            Some(from_parent) => *known.entry(from_parent).or_insert_with(&mut next),
            None => next(),
        };
    });
    let from_parents = known.into_iter().map(|(of, place)| (place, of)).collect();
    (count, from_parents)
}

/// Notes who stands in a relation by its own tuples, and what lies below it.
fn own(program: &Program, of: TypeId, relation: &Relation, above: &mut Above, types: &mut [u128]) {
    let mut has_own = false;
    relation.rewrite.for_each_leaf(&mut |leaf| match leaf {
        Node::Computed(computed) => {
            if let Some(lower) = program.relation(of, *computed) {
                above.add(lower.place, relation.place);
            }
        }
        Node::FromParent { place, .. } => above.add(*place, relation.place),
        _ => has_own = true,
    });
    if !has_own {
        return;
    }
    note_conditions(relation, relation.place, types);
    above.add(relation.userset_place, relation.place);
    for facet in relation.facets() {
        match facet {
            Facet::Object(of) | Facet::Wildcard(of) => {
                if let Some(types) = types.get_mut(relation.place.number as usize) {
                    *types |= program.bit(of);
                }
            }
            Facet::Userset(of, member) => {
                if let Some(lower) = program.relation(of, member) {
                    above.add(lower.place, relation.userset_place);
                }
            }
        }
    }
}

/// Notes of a place that the relation's tuples are met there.
fn note_conditions(relation: &Relation, place: Place, types: &mut [u128]) {
    if relation.has_conditions()
        && let Some(types) = types.get_mut(place.number as usize)
    {
        *types |= BOUND;
    }
}

impl Above {
    fn add(&mut self, lower: Place, place: Place) {
        if let Some(above) = self.0.get_mut(lower.number as usize) {
            above.push(place.number);
        }
    }

    /// Has all who stand in a place stand in those above it too.
    fn lift(&self, types: &mut [u128]) {
        let mut open: Vec<u32> = (0..).zip(&*types).map(|(number, _)| number).collect();
        while let Some(number) = open.pop() {
            let here = types.get(number as usize).copied().unwrap_or_default();
            for place in self.0.get(number as usize).into_iter().flatten() {
                if let Some(types) = types.get_mut(*place as usize)
                    && *types | here != *types
                {
                    *types |= here;
                    open.push(*place);
                }
            }
        }
    }
}
