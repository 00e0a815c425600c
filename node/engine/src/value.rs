//! The values of an evaluation, and sets of them.
//!
//! A fully known evaluation has one of four values: true, false, false by a cycle, or an error (the depth limit). With
//! parts unknown, what can be said is the *set* of values that remain possible: the unknown is the set of all four.
//! Combining sets by combining each pair of members is Kleene's three-valued logic, made exact for the errors and
//! cycles of OpenFGA: an answer is decided when everything that remains possible answers alike.
//!
//! Which value wins is OpenFGA's: in a union true, then an error, then a cycle, then false; in an intersection false,
//! then a cycle, then an error, then true. `base but not subtract` is the intersection of the base with the inverted
//! subtract, where a cycle or an error inverts to itself. Upstream's intersection takes whichever false comes first;
//! plain false before cycle is the one choice of its races that is the same in every order.

/// A set of possible values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value(u8);

const T: u8 = 1;
const F: u8 = 2;
const C: u8 = 4;
const E: u8 = 8;

impl Value {
    pub(crate) const TRUE: Self = Self(T);
    pub(crate) const FALSE: Self = Self(F);
    pub(crate) const CYCLE: Self = Self(C);
    pub(crate) const ERROR: Self = Self(E);
    pub(crate) const UNKNOWN: Self = Self(T | F | C | E);

    pub(crate) fn of(answer: bool) -> Self {
        if answer { Self::TRUE } else { Self::FALSE }
    }

    /// Any of the two.
    pub(crate) fn or(self, other: Self) -> Self {
        Self::combine(self, other, [T, E, C, F])
    }

    /// Both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self::combine(self, other, [F, C, E, T])
    }

    /// The other way round.
    pub(crate) fn invert(self) -> Self {
        let swapped = ((self.0 & T) << 1) | ((self.0 & F) >> 1);
        Self(swapped | (self.0 & (C | E)))
    }

    /// Combines each pair of members, where of two values the one that stands first in `order` wins: a value is possible
    /// when one side can have it and the other can have it or one that it beats.
    fn combine(a: Self, b: Self, order: [u8; 4]) -> Self {
        let mut beaten = T | F | C | E;
        let mut result = 0;
        for value in order {
            let (a_has, b_has) = (a.0 & value != 0, b.0 & value != 0);
            if (a_has && b.0 & beaten != 0) || (b_has && a.0 & beaten != 0) {
                result |= value;
            }
            beaten &= !value;
        }
        Self(result)
    }

    /// Whether only one value remains possible.
    pub(crate) fn is_single(self) -> bool {
        self.0.is_power_of_two()
    }

    /// Whether true remains possible.
    pub(crate) fn may_be_true(self) -> bool {
        self.0 & T != 0
    }

    /// Whether it can be told and answers true or false.
    pub(crate) fn decided(self) -> Option<bool> {
        match self.0 {
            T => Some(true),
            0 => None,
            rest if rest & !(F | C) == 0 => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Value> {
        (1..16).map(Value)
    }

    fn singles(set: Value) -> impl Iterator<Item = Value> {
        [T, F, C, E]
            .into_iter()
            .filter(move |bit| set.0 & bit != 0)
            .map(Value)
    }

    #[test]
    fn sets_combine_as_their_members_do() {
        for a in all() {
            for b in all() {
                let pairs = |op: fn(Value, Value) -> Value| {
                    singles(a)
                        .flat_map(|x| singles(b).map(move |y| op(x, y)))
                        .fold(0, |bits, v| bits | v.0)
                };
                assert_eq!(a.or(b).0, pairs(Value::or), "{a:?} or {b:?}");
                assert_eq!(a.and(b).0, pairs(Value::and), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn order_of_branches_does_not_matter() {
        for a in all() {
            for b in all() {
                assert_eq!((a.or(b), a.and(b)), (b.or(a), b.and(a)));
                for c in all() {
                    assert_eq!(a.or(b).or(c), a.or(b.or(c)));
                    assert_eq!(a.and(b).and(c), a.and(b.and(c)));
                }
            }
        }
    }

    #[test]
    fn winners_are_openfgas() {
        let (t, f, c, e) = (Value::TRUE, Value::FALSE, Value::CYCLE, Value::ERROR);
        assert_eq!([t.or(e), e.or(c), c.or(f), f.or(f)], [t, e, c, f]);
        assert_eq!([f.and(c), c.and(e), e.and(t), t.and(t)], [f, c, e, t]);
        assert_eq!(
            [t.invert(), f.invert(), c.invert(), e.invert()],
            [f, t, c, e]
        );
        assert_eq!(
            t.and(c.invert()).decided(),
            Some(false),
            "a cycle in what is subtracted denies"
        );
        assert_eq!(Value::UNKNOWN.or(e).decided(), None);
        assert_eq!(Value::UNKNOWN.or(t).decided(), Some(true));
        assert_eq!(Value::UNKNOWN.and(f).decided(), Some(false));
    }
}
