//! Relations that lead back to themselves: groups in groups, folders in folders.
//!
//! Where nothing but unions stands on the way back, who is in a set is who is in any of the sets that it leads to, however far
//! away. So such sets are evaluated together, each once, with a stack of their own ([`crate::loops`]) and no limit but the
//! budget's work: steps within a recursion take nothing from the depth limit. Sets that lead to one another have one value,
//! which is a cycle unless something else decides it, whichever of them is entered first; so it rests on no path and is kept.
//!
//! Over facts that grow round by round, a walk goes on where the last one ended ([`crate::shortcuts`]).
//!
//! A recursion through an intersection or an exclusion is none of these: there a set's value depends on the way to it, and
//! steps count.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use crate::facts::SetKey;
use crate::loops::Walk;
use crate::memory::Found;
use crate::program::{Facet, Kind, Node, Program, Relation};
use crate::sums::Sum;
use crate::symbols::TypeId;
use crate::value::Value;

/// Sets of recursions under evaluation.
pub(crate) type Members = Walk<(SetKey, TypeId), Member>;

/// A set of a recursion under evaluation.
pub(crate) struct Member {
    pub(crate) sum: Sum,
    pub(crate) onward: Onward,
    /// The fewest steps that were left where it leads in vain.
    pub(crate) fewest_left: u32,
}

/// Where a set leads, but for where it leads in vain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onward {
    Nowhere,
    /// To one set.
    To((SetKey, TypeId)),
    /// To several, or it has something of its own.
    Several,
}

impl Member {
    /// One that leads nowhere yet.
    pub(crate) fn new(own: Found, left: u32) -> Self {
        let mut member = Self {
            sum: Sum::union(left),
            onward: Onward::Nowhere,
            fewest_left: left,
        };
        member.add(None, own);
        member
    }

    /// Adds what a set that it leads to comes to, or what it has of its own.
    pub(crate) fn add(&mut self, of: Option<(SetKey, TypeId)>, found: Found) {
        self.sum.add(found);
        if found.value == Value::FALSE {
            self.fewest_left = self.fewest_left.min(found.fewest_left);
            return;
        }
        self.onward = match (self.onward, of) {
            (Onward::Nowhere, Some(set)) => Onward::To(set),
            (Onward::To(one), Some(set)) if one == set => Onward::To(one),
            _ => Onward::Several,
        };
    }
}

/// Relations that lead to one another, by unions alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Recursion(usize);

/// Finds the recursions of a program.
pub(crate) fn mark(program: &mut Program) {
    let kinds: Vec<Kind> = program.kinds().collect();
    let groups = groups(program, &kinds);
    let (mut found, mut spoilt) = (HashSet::new(), HashSet::new());
    for kind in &kinds {
        for_each_lead(program, *kind, &mut |to, is_plain| {
            if let (Some(from), Some(to)) = (groups.get(kind), groups.get(&to))
                && from == to
            {
                (if is_plain { &mut found } else { &mut spoilt }).insert(*from);
            }
        });
    }
    program.for_each_relation(&mut |kind, relation| {
        let group = groups.get(&kind).copied();
        relation.recursion = group.filter(|group| found.contains(group) && !spoilt.contains(group));
    });
}

/// Numbers the relations, those that lead to one another alike.
fn groups(program: &Program, kinds: &[Kind]) -> HashMap<Kind, Recursion, FixedState> {
    let mut groups = HashMap::default();
    let mut walk = Walk::default();
    let enter = |walk: &mut Walk<Kind, ()>, kind| {
        let mark = walk.mark();
        for_each_lead(program, kind, &mut |to, _| walk.lead(to));
        walk.enter(kind, mark, ());
    };
    for kind in kinds {
        if groups.contains_key(kind) {
            continue;
        }
        enter(&mut walk, *kind);
        while walk.len() > 0 {
            if let Some(to) = walk.next() {
                if !walk.closes(to) && !groups.contains_key(&to) {
                    enter(&mut walk, to);
                }
            } else {
                let number = Recursion(groups.len());
                walk.leave(|kind| {
                    groups.insert(kind, number);
                });
            }
        }
    }
    groups
}

/// Calls `visit` for each relation that one leads to, with whether only unions stand above that in its rewrite.
fn for_each_lead(program: &Program, kind: Kind, visit: &mut impl FnMut(Kind, bool)) {
    if let Some(relation) = program.relation(kind.0, kind.1) {
        leads(program, (kind.0, relation), &relation.rewrite, true, visit);
    }
}

fn leads(
    program: &Program,
    (of, relation): (TypeId, &Relation),
    node: &Node,
    is_plain: bool,
    visit: &mut impl FnMut(Kind, bool),
) {
    let mut lead = |kind: Kind| {
        if program.relation(kind.0, kind.1).is_some() {
            visit(kind, is_plain);
        }
    };
    match node {
        Node::This => relation.facets().for_each(|facet| {
            if let Facet::Userset(of, relation) = facet {
                lead((of, relation));
            }
        }),
        Node::Computed(computed) => lead((of, *computed)),
        Node::FromParent {
            tupleset, computed, ..
        } => {
            let parents = program.relation(of, *tupleset);
            parents
                .into_iter()
                .flat_map(Relation::facets)
                .for_each(|facet| {
                    if let Facet::Object(parent) = facet {
                        lead((parent, *computed));
                    }
                });
        }
        Node::Union(children) => children
            .iter()
            .for_each(|child| leads(program, (of, relation), child, is_plain, visit)),
        Node::Intersection(children) => children
            .iter()
            .for_each(|child| leads(program, (of, relation), child, false, visit)),
        Node::Exclusion(children) => [&children.0, &children.1]
            .into_iter()
            .for_each(|child| leads(program, (of, relation), child, false, visit)),
    }
}
