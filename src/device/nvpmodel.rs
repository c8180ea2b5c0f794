//! nvpmodel's files: which power mode is in force, and the limits (caps) of each mode.
//!
//! In: the text of `/etc/nvpmodel.conf` and `/var/lib/nvpmodel/status`. Out: caps by mode. Unknown lines are skipped: the
//! file has settings that no plan needs.

use crate::units::Hertz;

/// One `< POWER_MODEL ID=.. NAME=.. >` block. A cap is `None` where the block removes it or does not set it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ConfMode {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) gpu: Option<Hertz>,
    pub(super) cpu: Option<Hertz>,
    pub(super) emc: Option<Hertz>,
    /// SMs that the TPC mask leaves switched on.
    pub(super) sm_count: Option<u64>,
}

/// The id of the mode after the first boot: `< PM_CONFIG DEFAULT=1 >`.
pub(super) fn first_mode(conf: &str) -> Option<u32> {
    let headers = conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix('<'));
    let mut bodies = headers.filter_map(|header| header.trim().strip_prefix("PM_CONFIG"));
    bodies.find_map(|body| {
        let mut words = body.trim_end().trim_end_matches('>').split_whitespace();
        words
            .find_map(|word| word.strip_prefix("DEFAULT="))?
            .parse()
            .ok()
    })
}

/// The modes of a configuration file, in its order.
pub(super) fn modes(conf: &str) -> Vec<ConfMode> {
    let mut modes: Vec<ConfMode> = Vec::new();
    for line in conf
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
    {
        if let Some(header) = line.strip_prefix('<') {
            // Any other header, such as PM_CONFIG, has no caps below it that could be misread.
            modes.extend(mode_header(header));
        } else if let Some(mode) = modes.last_mut() {
            setting(mode, line);
        }
    }
    modes
}

/// `POWER_MODEL ID=0 NAME=15W >`, in either order of its attributes.
fn mode_header(header: &str) -> Option<ConfMode> {
    let body = header
        .trim()
        .strip_suffix('>')?
        .trim()
        .strip_prefix("POWER_MODEL")?;
    let attribute = |key: &str| {
        body.split_whitespace()
            .find_map(|word| word.strip_prefix(key))
    };
    let name = attribute("NAME=").filter(|name| name.len() <= 64)?;
    let id = attribute("ID=")?.parse().ok()?;
    Some(ConfMode {
        id,
        name: name.to_owned(),
        gpu: None,
        cpu: None,
        emc: None,
        sm_count: None,
    })
}

/// `GPU MAX_FREQ 612000000`: hertz for GPU and EMC, kilohertz for CPU clusters.
fn setting(mode: &mut ConfMode, line: &str) {
    let mut words = line.split_whitespace();
    let (Some(parameter), Some(argument), Some(value)) = (words.next(), words.next(), words.next())
    else {
        return;
    };
    let Ok(value) = value.parse::<i64>() else {
        return;
    };
    match (parameter, argument) {
        ("GPU", "MAX_FREQ") => mode.gpu = cap(value, 1.0),
        ("EMC", "MAX_FREQ") => mode.emc = cap(value, 1.0),
        (cluster, "MAX_FREQ") if cluster.starts_with("CPU_") => {
            mode.cpu = mode.cpu.or(cap(value, 1000.0));
        }
        ("TPC_POWER_GATING", "TPC_PG_MASK") => mode.sm_count = sms_left_on(value),
        _ => {}
    }
}

/// A cap in hertz; `None` for -1 and 0, and for the 2147483647 of older files, which mean that there is none.
pub(super) fn cap(value: i64, scale: f64) -> Option<Hertz> {
    if value == i64::from(i32::MAX) {
        None
    } else {
        plausible_clock(value as f64 * scale)
    }
}

/// A clock between 1 MHz and 10 GHz, or nothing.
pub(super) fn plausible_clock(hertz: f64) -> Option<Hertz> {
    (1e6..=1e10).contains(&hertz).then_some(Hertz(hertz))
}

/// A set bit of the mask switches one of eight TPCs off; a TPC has two SMs.
fn sms_left_on(mask: i64) -> Option<u64> {
    let mask = u8::try_from(mask).ok()?;
    Some(u64::from(mask.count_zeros()) * 2).filter(|sms| *sms > 0)
}

/// The id in `pmode:0002 fmode:quiet`.
pub(super) fn mode_in_force(status: &str) -> Option<u32> {
    let digits = status.split("pmode:").nth(1)?;
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "\
# < POWER_MODEL ID=id_num NAME=mode_name >
< PARAM TYPE=CLOCK NAME=EMC >
MAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
TPC_POWER_GATING TPC_PG_MASK 240
CPU_A78_0 MIN_FREQ 729600
CPU_A78_0 MAX_FREQ 1497600
GPU MIN_FREQ 0
GPU MAX_FREQ 612000000
EMC MAX_FREQ 2133000000

< POWER_MODEL NAME=MAXN_SUPER ID=2 >
CPU_A78_0 MAX_FREQ -1
GPU MAX_FREQ 2147483647
EMC MAX_FREQ 3199000000
< PM_CONFIG DEFAULT=0 >
";

    #[test]
    fn a_configuration_gives_caps_by_mode() {
        let read = modes(CONF);
        let expect = ConfMode {
            id: 0,
            name: "15W".to_owned(),
            gpu: Some(Hertz(612e6)),
            cpu: Some(Hertz(1.4976e9)),
            emc: Some(Hertz(2.133e9)),
            sm_count: Some(8),
        };
        assert_eq!(read.first(), Some(&expect));
        let uncapped = read.get(1).unwrap();
        assert_eq!((uncapped.id, uncapped.name.as_str()), (2, "MAXN_SUPER"));
        assert_eq!(
            (uncapped.gpu, uncapped.cpu, uncapped.emc),
            (None, None, Some(Hertz(3.199e9)))
        );
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn the_first_mode_is_an_id() {
        assert_eq!(first_mode(CONF), Some(0));
        assert_eq!(first_mode("<PM_CONFIG DEFAULT=1>"), Some(1));
        for bad in [
            "",
            "# < PM_CONFIG DEFAULT=1 >",
            "< PM_CONFIG >",
            "DEFAULT=1",
        ] {
            assert_eq!(first_mode(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_mode_in_force_is_an_id() {
        assert_eq!(mode_in_force("pmode:0002 fmode:quiet"), Some(2));
        assert_eq!(mode_in_force("pmode:0000\n"), Some(0));
        for bad in [
            "",
            "pmode:",
            "pmode:99999999999999",
            "fmode:quiet",
            "\u{fffd}pmode",
        ] {
            assert_eq!(mode_in_force(bad), None, "{bad}");
        }
    }

    #[test]
    fn garbage_gives_no_modes() {
        for bad in [
            "",
            "<",
            "< POWER_MODEL >",
            "< POWER_MODEL ID=x NAME=y >",
            "< POWER_MODEL ID=1",
            "GPU MAX_FREQ 1",
        ] {
            assert_eq!(modes(bad), [], "{bad}");
        }
        let odd = modes(
            "< POWER_MODEL ID=1 NAME=a >\nGPU MAX_FREQ\nGPU MAX_FREQ 9e99\nTPC_POWER_GATING TPC_PG_MASK 99999\n",
        );
        assert_eq!(
            odd.first().map(|mode| (mode.gpu, mode.sm_count)),
            Some((None, None))
        );
    }
}
