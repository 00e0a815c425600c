//! The cost of an evaluation, counted as cel-go's tracker counts it.
//!
//! The tracker keeps the values it has seen on a stack, tells them apart by the number of their expression, and charges
//! a call only where it finds all of its arguments there. What an error or a short circuit left behind stays on the
//! stack, so to charge alike it takes the same stack; of the values only their sizes matter.

use crate::function::Cost;
use crate::plan::{Attr, Call, Node, Op};

/// What making a list costs, and making a map.
const LIST: u64 = 10;
const MAP: u64 = 30;

/// Counts up to a limit.
pub(crate) struct Meter {
    cost: u64,
    limit: u64,
    seen: Vec<(u32, u64)>,
    /// The sizes of all values seen: measuring takes time in proportion.
    measured: u64,
}

/// The limit is exceeded.
pub(crate) struct Exceeded;

impl Meter {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            cost: 0,
            limit,
            seen: Vec::with_capacity(16),
            measured: 0,
        }
    }

    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    pub(crate) fn measured(&self) -> u64 {
        self.measured
    }

    /// Whether a call may be made whose arguments have these sizes: its work ought not be done in vain.
    pub(crate) fn allows(&self, cost: Cost, first: u64, second: u64) -> Result<(), Exceeded> {
        self.checked(self.cost.saturating_add(charge(cost, first, second)))
    }

    /// Counts a node that was evaluated to a value of this size.
    pub(crate) fn observe(&mut self, node: &Node, size: u64) -> Result<(), Exceeded> {
        match &node.op {
            Op::Const(_) | Op::InSet(..) => {}
            Op::Attr(attr @ Attr::Path { .. }) => {
                self.forget(attr.id());
                self.cost += 1;
            }
            Op::Attr(Attr::Choice {
                condition,
                branches,
                ..
            }) => {
                let [truthy, falsy] = &**branches;
                self.forget(falsy.id());
                self.forget(truthy.id());
                self.forget(condition.id());
            }
            Op::Logic { terms, .. } => terms.iter().for_each(|term| self.forget(term.id())),
            Op::Fold(fold) => self.forget(fold.range.id()),
            Op::Call(call) => self.call(call),
            Op::List(items) => {
                self.take(items.iter());
                self.cost += LIST;
            }
            Op::Map(entries) => {
                self.take(entries.iter().flat_map(|(key, value)| [key, value]));
                self.cost += MAP;
            }
        }
        self.saw(node.id(), size)
    }

    /// Counts a selection.
    pub(crate) fn observe_selection(
        &mut self,
        id: u32,
        computed: bool,
        size: u64,
    ) -> Result<(), Exceeded> {
        if computed {
            self.forget(id);
        }
        self.cost += 1;
        self.saw(id, size)
    }

    fn saw(&mut self, id: u32, size: u64) -> Result<(), Exceeded> {
        self.measured = self.measured.saturating_add(size);
        self.seen.push((id, size));
        self.checked(self.cost)
    }

    fn checked(&self, cost: u64) -> Result<(), Exceeded> {
        if cost > self.limit {
            Err(Exceeded)
        } else {
            Ok(())
        }
    }

    /// Takes the last value of an expression off the stack, and all above it.
    fn forget(&mut self, id: u32) {
        self.pop(id);
    }

    fn pop(&mut self, id: u32) -> Option<u64> {
        let at = self.seen.iter().rposition(|(seen, _)| *seen == id)?;
        let size = self.seen.get(at).map(|(_, size)| *size);
        self.seen.truncate(at);
        size
    }

    fn call(&mut self, call: &Call) {
        let mut sizes = [1; 2];
        for (at, arg) in call.args.iter().enumerate().rev() {
            let Some(found) = self.pop(arg.id()) else {
                return;
            };
            if let Some(slot) = sizes.get_mut(at) {
                *slot = found;
            }
        }
        let [first, second] = sizes;
        self.cost = self.cost.saturating_add(charge(call.cost, first, second));
    }

    /// Takes values off the stack, the last first, up to one that is missing.
    fn take<'n>(&mut self, nodes: impl DoubleEndedIterator<Item = &'n Node>) {
        for node in nodes.rev() {
            if self.pop(node.id()).is_none() {
                return;
            }
        }
    }
}

/// In floating point, for the rounding up shows its errors.
fn charge(cost: Cost, first: u64, second: u64) -> u64 {
    let part = |size: u64, factor: f64| (size as f64 * factor).ceil() as u64;
    let tenth = |size: u64| part(size, 0.1);
    match cost {
        Cost::One => 1,
        Cost::Affix => tenth(second),
        Cost::Traverse => tenth(first),
        Cost::InList => second,
        Cost::Smaller => tenth(first.min(second)),
        Cost::Concat => tenth(first.saturating_add(second)),
        Cost::Matches => tenth(first.saturating_add(1)).saturating_mul(part(second, 0.25)),
        Cost::Contains => tenth(first).saturating_mul(tenth(second)),
    }
}
