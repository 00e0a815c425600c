//! The functions and operators of CEL's standard library and of OpenFGA, with their overloads.

use crate::time::Part;

/// A type in an overload's signature. `A` and `B` are its variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Duration,
    Timestamp,
    Ip,
    Dyn,
    A,
    B,
    ListA,
    MapAB,
    TypeA,
}

/// What a call costs, as cel-go's tracker counts; where more than one overload can be meant, [`Cost::One`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    One,
    /// A tenth of the second argument's size.
    Affix,
    /// A tenth of the argument's size.
    Traverse,
    /// The list's length.
    InList,
    /// A tenth of the smaller size.
    Smaller,
    /// A tenth of both sizes.
    Concat,
    /// A tenth of the text's size times a quarter of the pattern's.
    Matches,
    /// A tenth of each size, multiplied.
    Contains,
}

/// One signature of a function.
#[derive(Debug)]
pub(crate) struct Overload {
    /// Called on a receiver, `a.f(b)`.
    pub(crate) member: bool,
    pub(crate) args: &'static [Sign],
    pub(crate) result: Sign,
    pub(crate) cost: Cost,
    /// Compares numbers of different types.
    pub(crate) cross: bool,
}

/// A function or operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Conditional,
    And,
    Or,
    Not,
    NotStrictlyFalse,
    Equals,
    NotEquals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Negate,
    Index,
    In,
    Size,
    Type,
    Dyn,
    ToBool,
    ToBytes,
    ToDouble,
    ToDuration,
    ToInt,
    ToText,
    ToTimestamp,
    ToUint,
    Contains,
    EndsWith,
    StartsWith,
    Matches,
    Part(Part),
    InCidr,
    ToIp,
}

const fn global(args: &'static [Sign], result: Sign) -> Overload {
    Overload {
        member: false,
        args,
        result,
        cost: Cost::One,
        cross: false,
    }
}

const fn member(args: &'static [Sign], result: Sign) -> Overload {
    Overload {
        member: true,
        args,
        result,
        cost: Cost::One,
        cross: false,
    }
}

const fn costing(cost: Cost, overload: Overload) -> Overload {
    Overload { cost, ..overload }
}

const fn cross(args: &'static [Sign]) -> Overload {
    Overload {
        cross: true,
        ..global(args, S::Bool)
    }
}

use Sign as S;

const COMPARE: &[Overload] = &[
    global(&[S::Bool, S::Bool], S::Bool),
    global(&[S::Int, S::Int], S::Bool),
    cross(&[S::Int, S::Double]),
    cross(&[S::Int, S::Uint]),
    global(&[S::Uint, S::Uint], S::Bool),
    cross(&[S::Uint, S::Double]),
    cross(&[S::Uint, S::Int]),
    global(&[S::Double, S::Double], S::Bool),
    cross(&[S::Double, S::Int]),
    cross(&[S::Double, S::Uint]),
    costing(Cost::Smaller, global(&[S::Text, S::Text], S::Bool)),
    costing(Cost::Smaller, global(&[S::Bytes, S::Bytes], S::Bool)),
    global(&[S::Timestamp, S::Timestamp], S::Bool),
    global(&[S::Duration, S::Duration], S::Bool),
];

const ADD: &[Overload] = &[
    costing(Cost::Concat, global(&[S::Bytes, S::Bytes], S::Bytes)),
    global(&[S::Double, S::Double], S::Double),
    global(&[S::Duration, S::Duration], S::Duration),
    global(&[S::Duration, S::Timestamp], S::Timestamp),
    global(&[S::Timestamp, S::Duration], S::Timestamp),
    global(&[S::Int, S::Int], S::Int),
    global(&[S::ListA, S::ListA], S::ListA),
    costing(Cost::Concat, global(&[S::Text, S::Text], S::Text)),
    global(&[S::Uint, S::Uint], S::Uint),
];

const SUBTRACT: &[Overload] = &[
    global(&[S::Double, S::Double], S::Double),
    global(&[S::Duration, S::Duration], S::Duration),
    global(&[S::Int, S::Int], S::Int),
    global(&[S::Timestamp, S::Duration], S::Timestamp),
    global(&[S::Timestamp, S::Timestamp], S::Duration),
    global(&[S::Uint, S::Uint], S::Uint),
];

const SIZE: &[Overload] = &[
    global(&[S::Bytes], S::Int),
    member(&[S::Bytes], S::Int),
    global(&[S::ListA], S::Int),
    member(&[S::ListA], S::Int),
    global(&[S::MapAB], S::Int),
    member(&[S::MapAB], S::Int),
    global(&[S::Text], S::Int),
    member(&[S::Text], S::Int),
];

const PRODUCTS: &[Overload] = &[
    global(&[S::Double, S::Double], S::Double),
    global(&[S::Int, S::Int], S::Int),
    global(&[S::Uint, S::Uint], S::Uint),
];

const EQUALITY: &[Overload] = &[costing(Cost::Smaller, global(&[S::A, S::A], S::Bool))];
const LOGIC: &[Overload] = &[global(&[S::Bool, S::Bool], S::Bool)];
const BOOL: &[Overload] = &[global(&[S::Bool], S::Bool)];

const TO_INT: &[Overload] = &[
    global(&[S::Int], S::Int),
    global(&[S::Double], S::Int),
    global(&[S::Duration], S::Int),
    global(&[S::Text], S::Int),
    global(&[S::Timestamp], S::Int),
    global(&[S::Uint], S::Int),
];

const TO_TEXT: &[Overload] = &[
    global(&[S::Text], S::Text),
    global(&[S::Bool], S::Text),
    costing(Cost::Traverse, global(&[S::Bytes], S::Text)),
    global(&[S::Double], S::Text),
    global(&[S::Duration], S::Text),
    global(&[S::Int], S::Text),
    global(&[S::Timestamp], S::Text),
    global(&[S::Uint], S::Text),
];

const AFFIX: &[Overload] = &[costing(Cost::Affix, member(&[S::Text, S::Text], S::Bool))];

const DATE: &[Overload] = &[
    member(&[S::Timestamp], S::Int),
    member(&[S::Timestamp, S::Text], S::Int),
];

const TIME: &[Overload] = &[
    member(&[S::Timestamp], S::Int),
    member(&[S::Timestamp, S::Text], S::Int),
    member(&[S::Duration], S::Int),
];

impl Function {
    /// The function of a name, or of an operator's name as the parser gives it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "_?_:_" => Self::Conditional,
            "_&&_" => Self::And,
            "_||_" => Self::Or,
            "!_" => Self::Not,
            "@not_strictly_false" => Self::NotStrictlyFalse,
            "_==_" => Self::Equals,
            "_!=_" => Self::NotEquals,
            "_<_" => Self::Less,
            "_<=_" => Self::LessEquals,
            "_>_" => Self::Greater,
            "_>=_" => Self::GreaterEquals,
            "_+_" => Self::Add,
            "_-_" => Self::Subtract,
            "_*_" => Self::Multiply,
            "_/_" => Self::Divide,
            "_%_" => Self::Modulo,
            "-_" => Self::Negate,
            "_[_]" => Self::Index,
            "@in" => Self::In,
            "size" => Self::Size,
            "type" => Self::Type,
            "dyn" => Self::Dyn,
            "bool" => Self::ToBool,
            "bytes" => Self::ToBytes,
            "double" => Self::ToDouble,
            "duration" => Self::ToDuration,
            "int" => Self::ToInt,
            "string" => Self::ToText,
            "timestamp" => Self::ToTimestamp,
            "uint" => Self::ToUint,
            "contains" => Self::Contains,
            "endsWith" => Self::EndsWith,
            "startsWith" => Self::StartsWith,
            "matches" => Self::Matches,
            "getFullYear" => Self::Part(Part::FullYear),
            "getMonth" => Self::Part(Part::Month),
            "getDayOfYear" => Self::Part(Part::DayOfYear),
            "getDayOfMonth" => Self::Part(Part::DayOfMonth),
            "getDate" => Self::Part(Part::Date),
            "getDayOfWeek" => Self::Part(Part::DayOfWeek),
            "getHours" => Self::Part(Part::Hours),
            "getMinutes" => Self::Part(Part::Minutes),
            "getSeconds" => Self::Part(Part::Seconds),
            "getMilliseconds" => Self::Part(Part::Milliseconds),
            "in_cidr" => Self::InCidr,
            "ipaddress" => Self::ToIp,
            _ => return None,
        })
    }

    /// Its signatures, in the order in which the first that fits gives the result's type.
    pub(crate) fn overloads(self) -> &'static [Overload] {
        match self {
            Self::Conditional => const { &[global(&[S::Bool, S::A, S::A], S::A)] },
            Self::And | Self::Or => LOGIC,
            Self::Not | Self::NotStrictlyFalse => BOOL,
            Self::Equals | Self::NotEquals => EQUALITY,
            Self::Less | Self::LessEquals | Self::Greater | Self::GreaterEquals => COMPARE,
            Self::Add => ADD,
            Self::Subtract => SUBTRACT,
            Self::Multiply | Self::Divide => PRODUCTS,
            Self::Modulo => PRODUCTS.split_at(1).1,
            Self::Negate => const { &[global(&[S::Double], S::Double), global(&[S::Int], S::Int)] },
            Self::Index => {
                const {
                    &[
                        global(&[S::ListA, S::Int], S::A),
                        global(&[S::MapAB, S::A], S::B),
                    ]
                }
            }
            Self::In => {
                const {
                    &[
                        costing(Cost::InList, global(&[S::A, S::ListA], S::Bool)),
                        global(&[S::A, S::MapAB], S::Bool),
                    ]
                }
            }
            Self::Size => SIZE,
            Self::Type => const { &[global(&[S::A], S::TypeA)] },
            Self::Dyn => const { &[global(&[S::A], S::Dyn)] },
            Self::ToBool => const { &[global(&[S::Bool], S::Bool), global(&[S::Text], S::Bool)] },
            Self::ToBytes => {
                const {
                    &[
                        global(&[S::Bytes], S::Bytes),
                        costing(Cost::Traverse, global(&[S::Text], S::Bytes)),
                    ]
                }
            }
            Self::ToDouble => {
                const {
                    &[
                        global(&[S::Double], S::Double),
                        global(&[S::Int], S::Double),
                        global(&[S::Text], S::Double),
                        global(&[S::Uint], S::Double),
                    ]
                }
            }
            Self::ToDuration => {
                const {
                    &[
                        global(&[S::Duration], S::Duration),
                        global(&[S::Text], S::Duration),
                    ]
                }
            }
            Self::ToInt => TO_INT,
            Self::ToText => TO_TEXT,
            Self::ToTimestamp => {
                const {
                    &[
                        global(&[S::Timestamp], S::Timestamp),
                        global(&[S::Int], S::Timestamp),
                        global(&[S::Text], S::Timestamp),
                    ]
                }
            }
            Self::ToUint => {
                const {
                    &[
                        global(&[S::Uint], S::Uint),
                        global(&[S::Double], S::Uint),
                        global(&[S::Int], S::Uint),
                        global(&[S::Text], S::Uint),
                    ]
                }
            }
            Self::Contains => {
                const {
                    &[costing(
                        Cost::Contains,
                        member(&[S::Text, S::Text], S::Bool),
                    )]
                }
            }
            Self::EndsWith | Self::StartsWith => AFFIX,
            Self::Matches => {
                const {
                    &[
                        costing(Cost::Matches, global(&[S::Text, S::Text], S::Bool)),
                        costing(Cost::Matches, member(&[S::Text, S::Text], S::Bool)),
                    ]
                }
            }
            Self::Part(Part::Hours | Part::Minutes | Part::Seconds | Part::Milliseconds) => TIME,
            Self::Part(_) => DATE,
            Self::InCidr => const { &[member(&[S::Ip, S::Text], S::Bool)] },
            Self::ToIp => const { &[global(&[S::Text], S::Ip)] },
        }
    }

    /// Whether a call on a constant is made once, when the condition is compiled.
    pub(crate) fn is_conversion(self) -> bool {
        matches!(
            self,
            Self::Type
                | Self::Dyn
                | Self::ToBool
                | Self::ToBytes
                | Self::ToDouble
                | Self::ToDuration
                | Self::ToInt
                | Self::ToText
                | Self::ToTimestamp
                | Self::ToUint
        )
    }
}

/// The name at run time of the type that an identifier names.
pub(crate) fn type_named(name: &str) -> Option<&'static str> {
    [
        "bool",
        "bytes",
        "double",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "type",
        "uint",
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
    ]
    .into_iter()
    .find(|known| *known == name)
}
