//! What is known of this machine, as far as it may stand in a file that others read: no name of the host, no path.

use crate::measurement::Machine;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Cores that this process may use.
pub fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// The name of a folder of results where none is given.
pub fn default_kind() -> String {
    format!("{}-core-machine", cores())
}

/// All that is known without starting ranks. `launcher` and `myriarch` are left to the caller.
pub fn look(kind: &str) -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Machine {
        kind: kind.to_owned(),
        cores: cores(),
        cpu: cpu(&read("/proc/cpuinfo")),
        memory_gib: memory_gib(&read("/proc/meminfo")),
        system: system(&read("/etc/os-release")),
        revision: said_by("git", &["describe", "--always", "--dirty", "--exclude=*"]),
        ..Machine::default()
    }
}

/// Load averages of 1, 5 and 15 minutes; empty where the system does not tell.
pub fn load() -> Vec<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).filter_map(|word| word.parse().ok()).collect()
}

/// Date and time in UTC.
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date_and_time(seconds)
}

/// The first line that a program prints; `unknown` where there is none.
pub fn said_by(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let text = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    first.unwrap_or("unknown").to_owned()
}

fn cpu(cpuinfo: &str) -> String {
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    value("model name").or_else(|| value("Model")).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn memory_gib(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().unwrap_or_default();
    (kib / 1024.0 / 1024.0).round() as u64
}

fn system(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Seconds since 1970 as `2026-11-22 04:30:00`, by Howard Hinnant's `civil_from_days`
/// (howardhinnant.github.io/date_algorithms.html).
fn date_and_time(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_and_time(0), "1970-01-01 00:00:00");
        assert_eq!(date_and_time(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(date_and_time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date_and_time(1_795_322_345), "2026-11-22 04:39:05");
    }

    #[test]
    fn processor_memory_and_system_are_read_from_the_files_of_linux() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: AMD EPYC 7B13\n"), "AMD EPYC 7B13");
        assert_eq!(memory_gib("MemTotal:       24672112 kB\nMemFree: 1 kB\n"), 24);
        assert_eq!(
            system("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
    }

    #[test]
    fn a_program_that_is_not_there_says_unknown() {
        assert_eq!(said_by("./no-such-program", &[]), "unknown");
        assert_eq!(said_by("echo", &["first"]), "first");
    }
}
