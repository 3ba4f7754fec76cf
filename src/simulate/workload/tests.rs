//! Draws agree with theory, texts go there and back, the makespan is that of brute force.

use super::*;
use proptest::prelude::*;

const DRAWS: u64 = 200_000;

fn parse(text: &str) -> Durations {
    Durations::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(text: &str) -> String {
    Durations::parse(text).expect_err(text).to_string()
}

/// The share of draws that are at most so long.
fn share_up_to(durations: &Durations, seed: u64, ns: f64) -> f64 {
    (0..DRAWS).filter(|index| durations.duration_ns(seed, *index) as f64 <= ns).count() as f64 / DRAWS as f64
}

fn mean_of_draws(durations: &Durations, seed: u64) -> f64 {
    (0..DRAWS).map(|index| durations.duration_ns(seed, index) as f64).sum::<f64>() / DRAWS as f64
}

/// `share` of `DRAWS` draws lies no more than five standard deviations from `expected`.
fn agrees(share: f64, expected: f64) -> bool {
    (share - expected).abs() < 5.0 * (expected * (1.0 - expected) / DRAWS as f64).sqrt()
}

/// The mean of `DRAWS` draws with this standard deviation lies no more than five of its own from `expected`.
fn mean_agrees(durations: &Durations, seed: u64, deviation: f64) -> bool {
    (mean_of_draws(durations, seed) - durations.mean_ns()).abs() < 5.0 * deviation / (DRAWS as f64).sqrt() + 0.5
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn lognormal_draws_have_its_mean_and_quantiles(seed: u64, mean_us in 1u64..1_000_000, sigma in 0.05f64..1.0) {
        let durations = parse(&format!("lognormal:{mean_us}us,{sigma}"));
        let mean_ns = durations.mean_ns();
        prop_assert_eq!(mean_ns, mean_us as f64 * 1e3);
        prop_assert!(mean_agrees(&durations, seed, mean_ns * ((sigma * sigma).exp() - 1.0).sqrt()));
        for (z, share) in [(-2.0, 0.022750131948), (-1.0, 0.158655253931), (0.0, 0.5), (1.0, 0.841344746069), (2.0, 0.977249868052)] {
            let quantile_ns = mean_ns * (sigma * z - sigma * sigma / 2.0).exp();
            prop_assert!(agrees(share_up_to(&durations, seed, quantile_ns), share), "{} at {z}", durations);
        }
    }

    #[test]
    fn exponential_draws_have_its_mean_and_quantiles(seed: u64, mean_us in 1u64..1_000_000) {
        let durations = parse(&format!("exp:{mean_us}us"));
        let mean_ns = durations.mean_ns();
        prop_assert!(mean_agrees(&durations, seed, mean_ns));
        for share in [0.01, 0.1, 0.5, 0.9, 0.99] {
            let quantile_ns = -mean_ns * f64::ln(1.0 - share);
            // Durations are whole nanoseconds: of the shortest mean, one is a thousandth.
            let at = (quantile_ns - 0.5).round() + 0.5;
            prop_assert!(agrees(share_up_to(&durations, seed, at), 1.0 - (-at / mean_ns).exp()), "{durations} at {share}");
        }
    }

    #[test]
    fn bimodal_draws_have_their_share_of_long_ones(seed: u64, share in 0.0f64..=1.0) {
        let durations = parse(&format!("bimodal:1ms,10s,{share}"));
        prop_assert!((durations.mean_ns() - (1e6 + share * (1e10 - 1e6))).abs() < 1e-3);
        let long = 1.0 - share_up_to(&durations, seed, 1e6);
        prop_assert!(agrees(long, share) || long == share);
    }
}

proptest! {
    #[test]
    fn the_same_seed_gives_the_same_draws_in_any_order(seed: u64, index: u64) {
        let durations = parse("lognormal:0.33ms,0.5");
        let drawn = durations.duration_ns(seed, index);
        durations.duration_ns(seed.wrapping_add(1), index);
        prop_assert_eq!(durations.duration_ns(seed, index), drawn);
        prop_assert_eq!(durations.clone().duration_ns(seed, index), drawn);
        prop_assert!(uniform(seed, index) > 0.0 && uniform(seed, index) < 1.0);
    }

    #[test]
    fn neighbours_in_seed_or_index_differ(seed: u64, index: u64) {
        let here = uniform(seed, index);
        prop_assert_ne!(here, uniform(seed, index.wrapping_add(1)));
        prop_assert_ne!(here, uniform(seed.wrapping_add(1), index));
        prop_assert_ne!(uniform(seed, index.wrapping_add(1)), uniform(seed.wrapping_add(GOLDEN), index));
    }

    #[test]
    fn what_is_displayed_is_read_again(
        kind in 0..4u8, short in 1u64..LONGEST_NS, more in 0u64..LONGEST_NS, sigma in 0.0..LARGEST_SIGMA, share in 0.0..=1.0,
        unit in proptest::sample::select(vec![1u64, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000]),
    ) {
        // Above 2^53 ns, 104 days, a number of nanoseconds is not always exact as a floating-point one.
        let whole = |ns: u64| (ns % (1 << 53)).div_ceil(unit) * unit;
        let long_ns = whole(short.max(more)).max(whole(short));
        let durations = Durations(match kind {
            0 => Kind::Constant { ns: whole(short) },
            1 => Kind::LogNormal { mean_ns: whole(short), sigma },
            2 => Kind::Exponential { mean_ns: whole(short) },
            _ => Kind::Bimodal { short_ns: whole(short), long_ns, long_share: share },
        });
        prop_assert_eq!(Durations::parse(&durations.to_string()).ok(), Some(durations));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
        let _ = Durations::parse(&text);
    }

    #[test]
    fn the_makespan_is_that_of_brute_force(durations in proptest::collection::vec(0u64..100, 0..60), slots in 1usize..9) {
        let mut free_at = vec![0; slots];
        for duration in &durations {
            *free_at.iter_mut().min().expect("slots") += duration;
        }
        let expected = free_at.into_iter().max();
        prop_assert_eq!(Some(list_scheduling_makespan_ns(durations.into_iter(), slots)), expected);
    }
}

#[test]
fn texts_are_read_and_displayed_in_the_largest_unit() {
    for (text, shown, mean_ns) in [
        ("0", "0", 0.0),
        ("10ms", "10ms", 1e7),
        ("0.5", "500ms", 5e8),
        ("1.5us", "1500ns", 1500.0),
        ("20µs", "20us", 2e4),
        ("20μs", "20us", 2e4),
        ("90s", "90s", 9e10),
        ("2m", "2m", 1.2e11),
        ("1 h", "1h", 3.6e12),
        ("1e-3", "1ms", 1e6),
        ("lognormal:0.33ms,0.5", "lognormal:330us,0.5", 3.3e5),
        ("exp:5ms", "exp:5ms", 5e6),
        ("bimodal:1ms,10s,0.01", "bimodal:1ms,10s,0.01", 1e6 * 0.99 + 1e10 * 0.01),
    ] {
        let durations = parse(text);
        assert_eq!(durations.to_string(), shown);
        assert_eq!(durations.mean_ns(), mean_ns, "{text}");
    }
}

#[test]
fn bad_texts_are_refused_with_their_cause() {
    let forms = "(write 10ms, 0.33ms, 500ns, 20us, 5s, 2m, 1h, or plain seconds)";
    for text in ["", "5x", "ms", "-1s", "inf", "nan", "1h30m", "1:30"] {
        let error = refusal(text);
        assert!(error.contains(forms) || error.contains("is none of lognormal, exp, bimodal, trace"), "{error}");
    }
    for (text, cause) in [
        ("400h400h", "\"400h400h\" is no duration"),
        ("9000h", "\"9000h\" is longer than a year"),
        ("uniform:1s", "\"uniform\" is none of lognormal, exp, bimodal, trace"),
        ("lognormal:1ms", "wants a mean and σ, as lognormal:0.33ms,0.5"),
        ("lognormal:1ms,-1", "\"-1\" is no number that is not negative"),
        ("lognormal:1ms,6", "σ 6 is more than 5"),
        ("lognormal:0,1", "the mean is zero"),
        ("exp:0", "the mean is zero"),
        ("bimodal:1ms,1s", "wants a short and a long duration and the share of long ones, as bimodal:1ms,10s,0.01"),
        ("bimodal:2s,1s,0.1", "the short duration, 2s, is longer than the long one, 1s"),
        ("bimodal:1s,2s,1.5", "the share of long ones, 1.5, is more than 1"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(&format!("\"{text}\": {cause}")), "{error}");
    }
}

#[test]
fn a_trace_starts_over_at_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace");
    let name = path.to_str().expect("a name");
    std::fs::write(&path, "# seconds\n0.25\n\n10ms\r\n1.000e-03\n").expect("a file");
    let durations = parse(&format!("trace:{name}"));
    let drawn: Vec<u64> = (0..4).map(|index| durations.duration_ns(7, index)).collect();
    assert_eq!(drawn, [250_000_000, 10_000_000, 1_000_000, 250_000_000]);
    assert_eq!(durations.mean_ns(), 87e6);
    assert_eq!(parse(&durations.to_string()), durations);

    std::fs::write(&path, "1\ntwo\n").expect("a file");
    let error = refusal(&format!("trace:{name}"));
    assert!(error.starts_with(&format!("{name}:2: \"two\" is no duration")), "{error}");
    std::fs::write(&path, "# nothing\n").expect("a file");
    assert_eq!(refusal(&format!("trace:{name}")), format!("{name}: no durations in it"));
    std::fs::remove_file(&path).expect("gone");
    assert_eq!(refusal(&format!("trace:{name}")), format!("{name}: No such file or directory"));
}

#[test]
fn what_is_drawn_is_never_longer_than_a_year() {
    let durations = parse("lognormal:8000h,5");
    let longest = (0..DRAWS).map(|index| durations.duration_ns(1, index)).max();
    assert_eq!(longest, Some(LONGEST_NS));
}

#[test]
fn tasks_start_in_their_order_on_the_slot_that_is_free_first() {
    let makespan = |durations: &[u64], slots| list_scheduling_makespan_ns(durations.iter().copied(), slots);
    assert_eq!(makespan(&[], 3), 0);
    assert_eq!(makespan(&[5], 3), 5);
    assert_eq!(makespan(&[3, 1, 1, 1, 3], 2), 6);
    assert_eq!(makespan(&[1, 1, 1, 3, 3], 2), 5);
    assert_eq!(makespan(&[u64::MAX, 1], 1), u64::MAX);
}
