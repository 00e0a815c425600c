//! A model's rewrites turned round: from a set that has a member to the sets that may have it through that.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::program::{Facet, Kind, Node, Program, Relation};
use crate::symbols::RelationId;

/// How membership of a set leads on to another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// To another relation of the same object.
    Same(RelationId),
    /// To the sets of this kind that have the set as a userset.
    Userset(Kind),
    /// To this relation of the objects that name the object as their parent by that kind of tupleset.
    Child(Kind, RelationId),
}

/// A step, and whether it proves membership: it does where nothing but unions stands above it in its rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) step: Step,
    pub(super) proves: bool,
}

/// Everything that can lead to one kind of set.
#[derive(Default)]
pub(super) struct Closure {
    /// Each kind on the way, with the ways on from it.
    ways: HashMap<Kind, Vec<Way>, FixedState>,
    /// The kinds that have tuples of their own, and whether these prove membership.
    assignable: Vec<(Kind, bool)>,
}

impl Closure {
    /// What leads to the relation of the type.
    pub(super) fn new(program: &Program, target: Kind) -> Self {
        let mut closure = Self::default();
        closure.ways.insert(target, Vec::new());
        let mut open = vec![target];
        while let Some(kind) = open.pop() {
            let Some(relation) = program.relation(kind.0, kind.1) else {
                continue;
            };
            let mut leaves = Vec::new();
            leaves_of(&relation.rewrite, true, &mut leaves);
            for (leaf, proves) in leaves {
                closure.turn(program, (kind, relation), leaf, proves, &mut open);
            }
        }
        closure
    }

    fn turn(
        &mut self,
        program: &Program,
        (kind, relation): (Kind, &Relation),
        leaf: &Node,
        proves: bool,
        open: &mut Vec<Kind>,
    ) {
        match leaf {
            Node::This => {
                self.assignable.push((kind, proves));
                for facet in relation.facets() {
                    if let Facet::Userset(of, relation) = facet {
                        self.add((of, relation), Step::Userset(kind), proves, open);
                    }
                }
            }
            Node::Computed(computed) => {
                self.add((kind.0, *computed), Step::Same(kind.1), proves, open);
            }
            Node::FromParent {
                tupleset, computed, ..
            } => {
                let parents = program.relation(kind.0, *tupleset);
                for facet in parents.into_iter().flat_map(Relation::facets) {
                    let Facet::Object(parent) = facet else {
                        continue;
                    };
                    if program.relation(parent, *computed).is_some() {
                        let step = Step::Child((kind.0, *tupleset), kind.1);
                        self.add((parent, *computed), step, proves, open);
                    }
                }
            }
            Node::Union(_) | Node::Intersection(_) | Node::Exclusion(_) => {}
        }
    }

    fn add(&mut self, from: Kind, step: Step, proves: bool, open: &mut Vec<Kind>) {
        let ways = self.ways.entry(from).or_insert_with(|| {
            open.push(from);
            Vec::new()
        });
        let way = Way { step, proves };
        if !ways.contains(&way) {
            ways.push(way);
        }
    }

    /// Whether membership of such a set can lead there.
    pub(super) fn holds(&self, kind: Kind) -> bool {
        self.ways.contains_key(&kind)
    }

    /// The ways on from a kind of set.
    pub(super) fn ways(&self, kind: Kind) -> &[Way] {
        self.ways.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// The kinds that have tuples of their own, and whether these prove membership.
    pub(super) fn assignable(&self) -> &[(Kind, bool)] {
        &self.assignable
    }
}

/// The leaves that every member of the rewrite is a member of at least one of, and of each whether only unions stand above
/// it. Of an intersection one branch is enough, and what is subtracted adds nobody.
fn leaves_of<'a>(node: &'a Node, proves: bool, out: &mut Vec<(&'a Node, bool)>) {
    match node {
        Node::This | Node::Computed(_) | Node::FromParent { .. } => out.push((node, proves)),
        Node::Union(children) => children
            .iter()
            .for_each(|child| leaves_of(child, proves, out)),
        Node::Intersection(children) => children
            .iter()
            .take(1)
            .for_each(|child| leaves_of(child, false, out)),
        Node::Exclusion(of) => leaves_of(&of.0, false, out),
    }
}
