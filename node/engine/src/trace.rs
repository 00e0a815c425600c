//! What an evaluation tells of its way, to whoever wants to explain it ([`crate::explain`]).
//!
//! An ordinary evaluation tells nobody: `()` listens to nothing, so nothing of this is left in it when it is compiled.

use crate::facts::SetKey;
use crate::program::Node;
use crate::sets::Subject;
use crate::value::Value;

/// What can be said of a set without looking at its rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    /// It is the asked userset itself.
    Itself,
    /// The model has no such relation.
    Undefined,
    /// The model lets no such user stand in it.
    Impossible,
}

/// Told of an evaluation as it goes. All but the parts on recursions nest.
pub(crate) trait Trace {
    /// A set is looked at.
    fn enter(&self, _set: SetKey) {}

    /// The set entered last came to this, but for where it leads within its recursion.
    fn leave(&self, _value: Value) {}

    /// Of a set this can be said at once.
    fn plain(&self, _set: SetKey, _what: Plain) {}

    /// A part of a rewrite is looked at.
    fn begin(&self, _node: &Node) {}

    /// The part begun last came to this.
    fn end(&self, _value: Value) {}

    /// The model lets no such user stand where the part begun last leads.
    fn impossible(&self) {}

    /// Whether the user, or the wildcard that takes it in, stands in the set's own tuples by this subject.
    fn tuple(&self, _subject: Subject, _value: Value) {}

    /// The condition on the tuple with this subject is not met.
    fn unmet(&self, _subject: Subject) {}

    /// The part begun last leads to a set, which came to this; `None` for one of the same recursion, looked at later.
    fn lead(&self, _to: SetKey, _value: Option<Value>) {}

    /// A set of a recursion came to this in the end.
    fn settle(&self, _set: SetKey, _value: Value) {}

    /// The set of a recursion that is looked at leads to this one, which came to that.
    fn met(&self, _to: SetKey, _value: Value) {}

    /// A set on the way through a recursion to one that the user is in; told from the first one on.
    fn on_way(&self, _set: SetKey) {}

    /// All that are on the way were told.
    fn arrived(&self) {}
}

impl Trace for () {}
