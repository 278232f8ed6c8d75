//! Host names with letters beyond ASCII, as resolvers and certificates know them: `bücher.example` is
//! `xn--bcher-kva.example` (RFC 3492 and RFC 5891). Letters are made small and the full stops of East Asian scripts are full
//! stops; other normalization is left to whoever typed the name.

/// The ASCII form of a host name; `None` if a part of it cannot be written so. One that is ASCII already is left as it is.
///
/// ```
/// let name = outlast_client::ascii_host("b\u{fc}cher.example");
/// assert_eq!(name.as_deref(), Some("xn--bcher-kva.example"));
/// ```
pub fn ascii_host(host: &str) -> Option<String> {
    if host.is_ascii() {
        return Some(host.to_owned());
    }
    let labels = host.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']);
    labels.map(label).collect::<Option<Vec<_>>>().map(|labels| labels.join("."))
}

fn label(label: &str) -> Option<String> {
    if label.is_ascii() {
        return Some(label.to_owned());
    }
    Some(format!("xn--{}", encoded(&label.to_lowercase())?))
}

/// The parameters of the encoding, as RFC 3492 names them.
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 128;

fn encoded(label: &str) -> Option<String> {
    let mut output: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(output.len()).ok()?;
    if basic > 0 {
        output.push('-');
    }
    let total = u32::try_from(label.chars().count()).ok()?;
    let (mut n, mut delta, mut bias, mut handled) = (INITIAL_N, 0_u32, INITIAL_BIAS, basic);
    while handled < total {
        let next = label.chars().map(u32::from).filter(|code| *code >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for code in label.chars().map(u32::from) {
            if code < n {
                delta = delta.checked_add(1)?;
            }
            if code == n {
                push_number(&mut output, delta, bias);
                bias = adapted(delta, handled + 1, handled == basic);
                (delta, handled) = (0, handled + 1);
            }
        }
        (delta, n) = (delta.checked_add(1)?, n + 1);
    }
    Some(output)
}

fn push_number(output: &mut String, number: u32, bias: u32) {
    let mut rest = number;
    for k in (1..).map(|step| step * BASE) {
        let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if rest < threshold {
            break;
        }
        output.push(digit(threshold + (rest - threshold) % (BASE - threshold)));
        rest = (rest - threshold) / (BASE - threshold);
    }
    output.push(digit(rest));
}

/// `a` to `z`, then `0` to `9`.
fn digit(value: u32) -> char {
    const DIGITS: &[u8; BASE as usize] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    char::from(DIGITS[value as usize])
}

fn adapted(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_resolvers_know_them() {
        for (name, expected) in [
            ("localhost", "localhost"),
            ("caf\u{e9}.invalid", "xn--caf-dma.invalid"),
            ("B\u{dc}CHER.Example", "xn--bcher-kva.Example"),
            ("\u{4e16}\u{754c}.invalid", "xn--rhqv96g.invalid"),
            ("\u{2764}.invalid", "xn--qei.invalid"),
            ("stra\u{df}e.de", "xn--strae-oqa.de"),
            ("\u{4f8b}\u{3048}\u{3002}\u{30c6}\u{30b9}\u{30c8}", "xn--r8jz45g.xn--zckzah"),
            ("3\u{5e74}b\u{7d44}\u{91d1}\u{516b}\u{5148}\u{751f}", "xn--3b-ww4c5e180e575a65lsy2b"),
        ] {
            assert_eq!(ascii_host(name).as_deref(), Some(expected), "{name}");
        }
    }
}
