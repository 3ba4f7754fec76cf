//! The inverse of the normal distribution.

/// The z below which a standard normal variable lies with probability `p`, for `p` strictly between 0 and 1. Wichura:
/// Algorithm AS 241: The Percentage Points of the Normal Distribution, Applied Statistics 37 (1988), 477–484, PPND16: the
/// relative error is about 1 in 10¹⁶.
#[inline]
pub(super) fn normal_quantile(p: f64) -> f64 {
    debug_assert!(p > 0.0 && p < 1.0, "{p} is no probability strictly between 0 and 1");
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * polynomial(&CENTRE.0, r) / polynomial(&CENTRE.1, r);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let (tail, r) = if r <= 5.0 { (&NEAR_TAIL, r - 1.6) } else { (&FAR_TAIL, r - 5.0) };
    (polynomial(&tail.0, r) / polynomial(&tail.1, r)).copysign(q)
}

/// Estrin's scheme, whose steps wait for each other less than those of Horner's rule. The coefficient of the highest power
/// comes first.
#[inline]
fn polynomial([c7, c6, c5, c4, c3, c2, c1, c0]: &[f64; 8], x: f64) -> f64 {
    let (x2, x4) = (x * x, x * x * (x * x));
    ((c7 * x + c6) * x2 + (c5 * x + c4)) * x4 + ((c3 * x + c2) * x2 + (c1 * x + c0))
}

/// Numerator and denominator of a rational function.
type Rational = ([f64; 8], [f64; 8]);

/// For |p − 1/2| ≤ 0.425.
const CENTRE: Rational = (
    [
        2509.0809287301227,
        33430.57558358813,
        67265.7709270087,
        45921.95393154987,
        13731.69376550946,
        1971.5909503065513,
        133.14166789178438,
        3.3871328727963665,
    ],
    [
        5226.495278852854,
        28729.085735721943,
        39307.89580009271,
        21213.794301586597,
        5394.196021424751,
        687.1870074920579,
        42.31333070160091,
        1.0,
    ],
);
/// For p or 1 − p down to exp(−25).
const NEAR_TAIL: Rational = (
    [
        0.0007745450142783414,
        0.022723844989269184,
        0.2417807251774506,
        1.2704582524523684,
        3.6478483247632045,
        5.769497221460691,
        4.630337846156546,
        1.4234371107496835,
    ],
    [
        1.0507500716444169e-09,
        0.0005475938084995345,
        0.015198666563616457,
        0.14810397642748008,
        0.6897673349851,
        1.6763848301838038,
        2.053191626637759,
        1.0,
    ],
);
/// For what is left.
const FAR_TAIL: Rational = (
    [
        2.0103343992922881e-07,
        2.7115555687434876e-05,
        0.0012426609473880784,
        0.026532189526576124,
        0.29656057182850487,
        1.7848265399172913,
        5.463784911164114,
        6.657904643501103,
    ],
    [
        2.0442631033899397e-15,
        1.421511758316446e-07,
        1.8463183175100548e-05,
        0.0007868691311456133,
        0.014875361290850615,
        0.1369298809227358,
        0.599832206555888,
        1.0,
    ],
);

#[cfg(test)]
mod tests {
    use super::*;

    /// z, and the probability below it.
    const KNOWN: [(f64, f64); 8] = [
        (0.1, 0.539827837277029),
        (0.5, 0.6914624612740131),
        (1.0, 0.8413447460685429),
        (1.5, 0.9331927987311419),
        (2.0, 0.977249868051821),
        (3.0, 0.998650101968370),
        (4.0, 0.999968328758167),
        (6.0, 1.0 - 9.865876450376946e-10),
    ];

    #[test]
    fn known_quantiles_are_met() {
        assert_eq!(normal_quantile(0.5), 0.0);
        for (z, p) in KNOWN {
            // An error in the last place of p, divided by the density there.
            let slack = 1e-15 + 4e-16 * (z * z / 2.0).exp() * 2.6;
            assert!((normal_quantile(p) - z).abs() <= slack, "{z}: {}", normal_quantile(p));
        }
        let below = [(-6.0, 9.865876450376946e-10), (-9.0, 1.1285884059538406e-19), (-15.0, 3.67096619931275e-51)];
        for (z, p) in below {
            assert!((normal_quantile(p) / z - 1.0).abs() < 1e-14, "{z}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn it_is_odd_and_rises() {
        let mut last = f64::NEG_INFINITY;
        for step in 1..10_000 {
            let p = f64::from(step) / 10_000.0;
            let z = normal_quantile(p);
            assert!(z > last, "{p}");
            assert!((z + normal_quantile(1.0 - p)).abs() < 1e-11, "{p}");
            last = z;
        }
    }
}
