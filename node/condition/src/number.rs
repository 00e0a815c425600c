//! Numbers in contexts and in texts, read as Go's `math/big` and `strconv` read them.
//!
//! OpenFGA reads a number in a text into a float with 64 bits of mantissa. So `"0.1"` is no double, for its value
//! lies between two doubles, while `"0.5"` is one.

/// A whole number of 64 bits; larger ones become the largest.
pub(crate) fn int(n: f64) -> Option<i64> {
    // A cast from a float to an integer saturates.
    (n.is_finite() && n.fract() == 0.0).then_some(n as i64)
}

/// A whole number written as a text.
pub(crate) fn int_of_text(text: &str) -> Option<i64> {
    let Big::Finite {
        negative,
        mantissa,
        exponent,
    } = Big::parse(text)?
    else {
        return None;
    };
    if mantissa == 0 {
        return Some(0);
    }
    let magnitude = match exponent {
        64.. => u128::MAX,
        0..64 => u128::from(mantissa) << exponent,
        -63..0 if mantissa.trailing_zeros() as i64 >= -exponent => {
            u128::from(mantissa >> -exponent)
        }
        _ => return None,
    };
    let clamped = i128::try_from(magnitude).unwrap_or(i128::MAX);
    let signed = if negative { -clamped } else { clamped };
    Some(i64::try_from(signed).unwrap_or(if negative { i64::MIN } else { i64::MAX }))
}

/// A number written as a text, if a double holds it exactly.
pub(crate) fn double_of_text(text: &str) -> Option<f64> {
    let (negative, magnitude) = match Big::parse(text)? {
        Big::Infinite { negative } => (negative, f64::INFINITY),
        Big::Finite {
            negative,
            mantissa,
            exponent,
        } => {
            let exponent = i32::try_from(exponent).ok()?;
            // Two steps, for neither the mantissa's double nor the factor may fall out of range alone.
            let (half, rest) = (exponent / 2, exponent - exponent / 2);
            let double = mantissa as f64 * 2f64.powi(half) * 2f64.powi(rest);
            let back = double / 2f64.powi(half) / 2f64.powi(rest);
            // Wider than the mantissa, which may round up to the double beyond the last `u64`.
            let whole = u128::from(mantissa);
            let exact =
                double.is_finite() && back as u128 == whole && mantissa as f64 as u128 == whole;
            if !exact {
                return None;
            }
            (negative, double)
        }
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// A float of 64 bits of mantissa.
enum Big {
    Finite {
        negative: bool,
        mantissa: u64,
        /// Of two.
        exponent: i64,
    },
    Infinite {
        negative: bool,
    },
}

/// Digits looked at; more can only break a tie.
const MAX_DIGITS: usize = 400;
/// Decimal exponents beyond which a value is taken for one at the bound: no result differs.
const MAX_EXPONENT: i64 = 800;
/// The decimal exponent from which Go's floats are infinite, and below whose negative they are zero.
const EXTREME_EXPONENT: i64 = 646_456_993;

impl Big {
    fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if matches!(rest, b"Inf" | b"inf") {
            return Some(Self::Infinite { negative });
        }
        let decimal = Decimal::parse(rest)?;
        let Some(first) = decimal.digits.iter().position(|d| *d != 0) else {
            return Some(Self::Finite {
                negative,
                mantissa: 0,
                exponent: 0,
            });
        };
        let digits = decimal.digits.get(first..)?;
        let magnitude = decimal.ten.checked_add(digits.len() as i64)?;
        // An exponent of two is as large as the one of ten it comes from, and the bits of the digits.
        let bits = digits
            .iter()
            .take(MAX_DIGITS)
            .fold(Natural::default(), |mut number, digit| {
                number.multiply_add(10, u32::from(*digit));
                number
            });
        i32::try_from(
            decimal
                .ten
                .checked_add(decimal.two)?
                .checked_add(bits.bits() as i64)?,
        )
        .ok()?;
        if magnitude > EXTREME_EXPONENT {
            return Some(Self::Infinite { negative });
        }
        if magnitude < -EXTREME_EXPONENT {
            return Some(Self::Finite {
                negative,
                mantissa: 0,
                exponent: 0,
            });
        }
        let kept = digits.get(..MAX_DIGITS).unwrap_or(digits);
        let ten = decimal.ten + (digits.len() - kept.len()) as i64;
        let sticky = digits
            .get(kept.len()..)
            .is_some_and(|rest| rest.iter().any(|d| *d != 0));
        let (mantissa, exponent) = round(kept, ten.clamp(-MAX_EXPONENT, MAX_EXPONENT), sticky)?;
        Some(Self::Finite {
            negative,
            mantissa,
            exponent: exponent + decimal.two,
        })
    }
}

/// Digits times a power of ten and one of two.
struct Decimal {
    digits: Vec<u8>,
    ten: i64,
    two: i64,
}

impl Decimal {
    fn parse(text: &[u8]) -> Option<Self> {
        let number_len = text
            .iter()
            .take_while(|b| b.is_ascii_digit() || **b == b'.')
            .count();
        let (number, exponent) = text.split_at_checked(number_len)?;
        let mut digits: Vec<u8> = Vec::new();
        let mut point = None;
        for b in number {
            match b {
                b'.' if point.is_some() => return None,
                b'.' => point = Some(digits.len()),
                digit => digits.push(digit - b'0'),
            }
        }
        if digits.is_empty() {
            return None;
        }
        let fraction = point.map_or(0, |at| digits.len() - at);
        let mut decimal = Self {
            digits,
            ten: -(fraction as i64),
            two: 0,
        };
        if let [kind, exponent @ ..] = exponent {
            let exponent: i64 = std::str::from_utf8(exponent).ok()?.parse().ok()?;
            match kind {
                b'e' | b'E' => decimal.ten = decimal.ten.checked_add(exponent)?,
                b'p' | b'P' => decimal.two = i64::from(i32::try_from(exponent).ok()?),
                _ => return None,
            }
        }
        Some(decimal)
    }
}

/// `digits * 10^ten`, rounded half to even to 64 bits: its mantissa, and its exponent of two.
fn round(digits: &[u8], ten: i64, mut sticky: bool) -> Option<(u64, i64)> {
    let mut number = Natural::default();
    for digit in digits {
        number.multiply_add(10, u32::from(*digit));
    }
    let mut exponent = 0;
    if ten < 0 {
        // Shifted until the quotient has more than 64 bits.
        let shift = 4 * ten.unsigned_abs() as usize + 128;
        number.shift_left(shift);
        exponent -= shift as i64;
        for _ in 0..ten.unsigned_abs() {
            sticky |= number.divide(10) != 0;
        }
    }
    for _ in 0..ten.max(0) {
        number.multiply_add(10, 0);
    }
    let bits = number.bits();
    let low = bits.saturating_sub(64);
    let mut mantissa = number.at(low);
    exponent += low as i64;
    if low > 0 {
        let half = number.bit(low - 1);
        let rest = sticky || number.any_below(low - 1);
        if half && (rest || mantissa & 1 == 1) {
            mantissa = mantissa.checked_add(1).unwrap_or_else(|| {
                exponent += 1;
                1 << 63
            });
        }
    }
    Some((mantissa, exponent))
}

/// A natural number of any size; the lowest 32 bits first.
#[derive(Default)]
struct Natural(Vec<u32>);

impl Natural {
    fn multiply_add(&mut self, factor: u32, add: u32) {
        let mut carry = u64::from(add);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Divides and answers the remainder.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut remainder = 0u64;
        for limb in self.0.iter_mut().rev() {
            let value = (remainder << 32) | u64::from(*limb);
            *limb = (value / u64::from(divisor)) as u32;
            remainder = value % u64::from(divisor);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        remainder as u32
    }

    fn shift_left(&mut self, bits: usize) {
        for _ in 0..bits % 32 {
            self.multiply_add(2, 0);
        }
        self.0.splice(0..0, std::iter::repeat_n(0, bits / 32));
    }

    fn bits(&self) -> usize {
        self.0
            .last()
            .map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn bit(&self, at: usize) -> bool {
        self.0
            .get(at / 32)
            .is_some_and(|limb| limb >> (at % 32) & 1 == 1)
    }

    fn any_below(&self, at: usize) -> bool {
        (0..at).any(|bit| self.bit(bit))
    }

    /// The 64 bits from `low` up.
    fn at(&self, low: usize) -> u64 {
        (0..64)
            .rev()
            .fold(0, |n, bit| n << 1 | u64::from(self.bit(low + bit)))
    }
}

/// A double as Go's `strconv.ParseFloat` reads it; `None` for what is none, or out of range.
pub(crate) fn parse_double(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if lower == "nan" {
        return (unsigned.len() == text.len()).then_some(f64::NAN);
    }
    if matches!(lower.as_str(), "inf" | "infinity") {
        return text.parse().ok();
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        let magnitude = parse_hex(hex)?;
        return Some(if text.starts_with('-') {
            -magnitude
        } else {
            magnitude
        });
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain = without_underscores(text, char::is_ascii_digit)?;
    plain.parse().ok().filter(|d: &f64| d.is_finite())
}

/// Underscores may stand between digits.
fn without_underscores(text: &str, is_digit: fn(&char) -> bool) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(is_digit);
    let well_placed =
        |at: usize| chars.get(at) != Some(&'_') || digit(at.checked_sub(1)) && digit(Some(at + 1));
    (0..chars.len())
        .all(well_placed)
        .then(|| text.replace('_', ""))
}

/// A hexadecimal float after its `0x`: mantissa, `p`, and an exponent of two.
fn parse_hex(text: &str) -> Option<f64> {
    let text = without_underscores(&format!("0{text}"), char::is_ascii_hexdigit)?;
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() < 2 {
        return None;
    }
    let mut number = Natural::default();
    for c in whole.chars().chain(fraction.chars()) {
        number.multiply_add(16, c.to_digit(16)?);
    }
    let bits = number.bits();
    let exponent = exponent.checked_sub(4 * fraction.len() as i64)?;
    if bits == 0 {
        return Some(0.0);
    }
    // The exponent of the lowest bit that the double can hold.
    let top = exponent.checked_add(bits as i64)?;
    let lowest = (top - 53).max(-1_074);
    let drop = usize::try_from((lowest - exponent).max(0)).ok()?;
    if drop > bits + 1 {
        return Some(0.0);
    }
    let mut kept = number.at(drop);
    if drop > 0 && number.bit(drop - 1) && (kept & 1 == 1 || number.any_below(drop - 1)) {
        kept += 1;
    }
    let scale = i32::try_from(exponent.checked_add(drop as i64)?)
        .unwrap_or(i32::MAX)
        .min(2_000);
    let double = kept as f64 * 2f64.powi(scale / 2) * 2f64.powi(scale - scale / 2);
    double.is_finite().then_some(double)
}

/// A double as Go's `%g` writes it.
pub(crate) fn format_double(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_owned();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{d:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if d != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{d}")
}
