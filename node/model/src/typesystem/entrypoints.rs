//! The two rules that look at all relations together: somebody can be related, and nothing is computed from itself.
//!
//! Both are solved by propagation over a graph instead of by following definitions, so that time is linear in the
//! model and no chain of relations, however long, deepens the stack. OpenFGA follows definitions and remembers a failed
//! path for its siblings, so it refuses a few models that do have entrypoints; those are accepted here.

use std::collections::{BTreeMap, BTreeSet};

use super::compile::Note;
use super::{Cause, Facet, ModelError, Relation, Rewrite, TypeDef};

/// Checks both rules.
///
/// # Errors
/// The first relation, in the order of names, that nobody can ever have or that is computed from itself and that `note`
/// gives back.
pub(super) fn check(types: &BTreeMap<Box<str>, TypeDef>, note: Note<'_>) -> Result<(), ModelError> {
    let open = Graph::of_entrypoints(types).solve();
    let acyclic = Graph::of_computed(types).solve();
    for (object_type, relation, _) in relations(types) {
        let at = (object_type, relation);
        let cause = match (open.contains(&at), acyclic.contains(&at)) {
            (true, true) => continue,
            (true, false) => Cause::Cycle,
            (false, true) => Cause::NoEntrypoints,
            (false, false) => Cause::NoEntrypointsLoop,
        };
        note(ModelError::relation(object_type, relation, cause))?;
    }
    Ok(())
}

type At<'a> = (&'a str, &'a str);

fn relations(types: &BTreeMap<Box<str>, TypeDef>) -> impl Iterator<Item = (&str, &str, &Relation)> {
    types.iter().flat_map(|(object_type, def)| {
        def.relations
            .iter()
            .map(move |(name, relation)| (&**object_type, &**name, relation))
    })
}

/// A node holds once as many of the nodes it waits for hold as it needs.
#[derive(Default)]
struct Node {
    needs: usize,
    waiting: Vec<usize>,
}

/// An and-or graph. The nodes of relations come first, in the order of names.
struct Graph<'a> {
    relations: BTreeMap<At<'a>, usize>,
    nodes: Vec<Node>,
}

impl<'a> Graph<'a> {
    fn new(types: &'a BTreeMap<Box<str>, TypeDef>) -> Self {
        let relations: BTreeMap<_, _> = relations(types)
            .enumerate()
            .map(|(index, (object_type, name, _))| ((object_type, name), index))
            .collect();
        let nodes = relations
            .iter()
            .map(|_| Node {
                needs: 1,
                waiting: Vec::new(),
            })
            .collect();
        Self { relations, nodes }
    }

    /// A relation holds when somebody can be related: through a restriction that admits an object or a wildcard, in
    /// any branch of a union, in all of an intersection or exclusion.
    fn of_entrypoints(types: &'a BTreeMap<Box<str>, TypeDef>) -> Self {
        let mut graph = Self::new(types);
        for (index, (object_type, _, relation)) in relations(types).enumerate() {
            let own = graph.own_tuples(relation);
            let root = graph.rewrite(types, object_type, own, &relation.rewrite);
            graph.wait(index, root);
        }
        graph
    }

    /// A relation holds when all relations of the same object it is computed from do; those that never hold lead into
    /// a cycle.
    fn of_computed(types: &'a BTreeMap<Box<str>, TypeDef>) -> Self {
        let mut graph = Self::new(types);
        for (index, (object_type, _, relation)) in relations(types).enumerate() {
            let mut targets = Vec::new();
            relation.rewrite.for_each_leaf(&mut |leaf| {
                if let Rewrite::Computed(of) = leaf {
                    targets.extend(graph.relations.get(&(object_type, &**of)).copied());
                }
            });
            graph.need(index, targets.len());
            targets
                .into_iter()
                .for_each(|target| graph.wait(index, target));
        }
        graph
    }

    /// The node of a relation's own tuples, shared by every `This` of its rewrite.
    fn own_tuples(&mut self, relation: &Relation) -> usize {
        let mut usersets = Vec::new();
        for restriction in &relation.restrictions {
            match &restriction.facet {
                Facet::Object | Facet::Wildcard => return self.any(Vec::new(), 0),
                Facet::Userset(of) => usersets.extend(
                    self.relations
                        .get(&(&*restriction.type_name, &**of))
                        .copied(),
                ),
            }
        }
        self.any(usersets, 1)
    }

    fn rewrite(
        &mut self,
        types: &'a BTreeMap<Box<str>, TypeDef>,
        object_type: &str,
        own: usize,
        rewrite: &Rewrite,
    ) -> usize {
        let children = |graph: &mut Self, of: &[&Rewrite]| {
            of.iter()
                .map(|child| graph.rewrite(types, object_type, own, child))
                .collect::<Vec<_>>()
        };
        match rewrite {
            Rewrite::This => own,
            Rewrite::Computed(of) => {
                let target = self.relations.get(&(object_type, &**of)).copied();
                self.any(target.into_iter().collect(), 1)
            }
            Rewrite::FromParent { tupleset, computed } => {
                let tupleset = types
                    .get(object_type)
                    .and_then(|def| def.relations.get(tupleset));
                let parents: BTreeSet<&str> = tupleset
                    .into_iter()
                    .flat_map(|tupleset| &tupleset.restrictions)
                    .map(|parent| &*parent.type_name)
                    .collect();
                let targets = parents
                    .into_iter()
                    .filter_map(|parent| self.relations.get(&(parent, &**computed)).copied())
                    .collect();
                self.any(targets, 1)
            }
            Rewrite::Union(of) => {
                let children = children(self, &of.iter().collect::<Vec<_>>());
                self.any(children, 1)
            }
            Rewrite::Intersection(of) => {
                let children = children(self, &of.iter().collect::<Vec<_>>());
                let needs = children.len();
                self.any(children, needs)
            }
            Rewrite::Exclusion(both) => {
                let children = children(self, &[&both.0, &both.1]);
                self.any(children, 2)
            }
        }
    }

    /// A new node that holds once `needs` of `of` do.
    fn any(&mut self, of: Vec<usize>, needs: usize) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node {
            needs,
            waiting: Vec::new(),
        });
        of.into_iter().for_each(|target| self.wait(node, target));
        node
    }

    fn need(&mut self, node: usize, needs: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.needs = needs;
        }
    }

    fn wait(&mut self, node: usize, target: usize) {
        if let Some(target) = self.nodes.get_mut(target) {
            target.waiting.push(node);
        }
    }

    /// The relations that hold.
    fn solve(mut self) -> BTreeSet<At<'a>> {
        let mut holding: Vec<usize> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.needs == 0)
            .map(|(index, _)| index)
            .collect();
        let mut done = vec![false; self.nodes.len()];
        while let Some(index) = holding.pop() {
            if let Some(flag) = done.get_mut(index) {
                *flag = true;
            }
            let waiting = self
                .nodes
                .get_mut(index)
                .map(|node| std::mem::take(&mut node.waiting))
                .unwrap_or_default();
            for other in waiting {
                if let Some(node) = self.nodes.get_mut(other)
                    && node.needs > 0
                {
                    node.needs -= 1;
                    if node.needs == 0 {
                        holding.push(other);
                    }
                }
            }
        }
        self.relations
            .into_iter()
            .filter(|(_, index)| done.get(*index) == Some(&true))
            .map(|(at, _)| at)
            .collect()
    }
}
