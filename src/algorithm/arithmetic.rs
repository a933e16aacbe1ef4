//! Division and products that cannot panic or wrap.

/// `a / b` rounded down; 0 if `b` is 0, which no window is.
pub(super) const fn div(a: u64, b: u64) -> u64 {
    match a.checked_div(b) {
        Some(quotient) => quotient,
        None => 0,
    }
}

/// Quotient and rest of `(a * b + c) / d`; the quotient saturates. `d` of 0 gives the largest
/// quotient, for a rate of 0 never gets there.
///
/// Computed in 64 bits when the product fits and in 128 when it does not; a Lua script splits
/// `b` at 16 bits instead, with the same result.
pub(super) fn mul_add_div(a: u64, b: u64, c: u64, d: u64) -> (u64, u64) {
    if let Some(x) = a.checked_mul(b).and_then(|ab| ab.checked_add(c)) {
        return match (x.checked_div(d), x.checked_rem(d)) {
            (Some(quotient), Some(rest)) => (quotient, rest),
            _ => (u64::MAX, 0),
        };
    }
    let x = u128::from(a)
        .saturating_mul(u128::from(b))
        .saturating_add(u128::from(c));
    match (x.checked_div(u128::from(d)), x.checked_rem(u128::from(d))) {
        (Some(quotient), Some(rest)) => (
            u64::try_from(quotient).unwrap_or(u64::MAX),
            u64::try_from(rest).unwrap_or(u64::MAX),
        ),
        _ => (u64::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_products_agree_with_narrow_ones() {
        assert_eq!(mul_add_div(7, 3, 2, 5), (4, 3));
        assert_eq!(mul_add_div(1 << 40, 1 << 40, 9, 1 << 40), (1 << 40, 9));
        assert_eq!(mul_add_div(u64::MAX, u64::MAX, 0, 1), (u64::MAX, 0));
        assert_eq!(mul_add_div(3, 3, 0, 0), (u64::MAX, 0));
        assert_eq!(div(7, 2), 3);
        assert_eq!(div(7, 0), 0);
    }
}
