//! Which kinds of sets can hold users of a kind at all, by the model alone.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::closure::Kind;
use crate::program::{Facet, Node, Program, Relation};
use crate::symbols::{RelationId, TypeId};

/// Users of a type, or usersets of its relation.
pub(super) type Filter = (TypeId, Option<RelationId>);

/// The kinds of sets below `start` that can hold users of the filter.
pub(super) fn leads(program: &Program, start: Kind, filter: Filter) -> HashSet<Kind, FixedState> {
    let mut below: HashMap<Kind, Vec<Kind>, FixedState> = HashMap::default();
    let mut leads: HashSet<Kind, FixedState> = HashSet::default();
    let mut open = vec![start];
    while let Some(kind) = open.pop() {
        if below.contains_key(&kind) {
            continue;
        }
        let mut next = Vec::new();
        if let Some(definition) = program.relation(kind.0, kind.1) {
            let mut holds = filter == (kind.0, Some(kind.1));
            below_of(program, kind, &definition.rewrite, &mut next);
            if has_own_tuples(&definition.rewrite) {
                for facet in definition.facets() {
                    match facet {
                        Facet::Object(of) | Facet::Wildcard(of) => holds |= filter == (of, None),
                        Facet::Userset(of, relation) => next.push((of, relation)),
                    }
                }
            }
            if holds {
                leads.insert(kind);
            }
        }
        open.extend(&next);
        below.insert(kind, next);
    }
    loop {
        let found: Vec<_> = below
            .iter()
            .filter(|(kind, next)| {
                !leads.contains(*kind) && next.iter().any(|of| leads.contains(of))
            })
            .map(|(kind, _)| *kind)
            .collect();
        if found.is_empty() {
            return leads;
        }
        leads.extend(found);
    }
}

/// The kinds that a rewrite goes on to by computed relations and parents.
fn below_of(program: &Program, kind: Kind, node: &Node, next: &mut Vec<Kind>) {
    match node {
        Node::This => {}
        Node::Computed(computed) => next.push((kind.0, *computed)),
        Node::FromParent { tupleset, computed } => {
            let parents = program.relation(kind.0, *tupleset);
            for facet in parents.into_iter().flat_map(Relation::facets) {
                if let Facet::Object(parent) = facet {
                    next.push((parent, *computed));
                }
            }
        }
        Node::Union(children) | Node::Intersection(children) => children
            .iter()
            .for_each(|child| below_of(program, kind, child, next)),
        Node::Exclusion(of) => {
            below_of(program, kind, &of.0, next);
            below_of(program, kind, &of.1, next);
        }
    }
}

fn has_own_tuples(node: &Node) -> bool {
    match node {
        Node::This => true,
        Node::Computed(_) | Node::FromParent { .. } => false,
        Node::Union(children) | Node::Intersection(children) => children.iter().any(has_own_tuples),
        Node::Exclusion(of) => has_own_tuples(&of.0) || has_own_tuples(&of.1),
    }
}
