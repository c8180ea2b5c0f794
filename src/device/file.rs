//! Device files: the TOML form of a profile, and the rules that make one valid.
//!
//! In: a file's text. Out: a [`DeviceProfile`]. Every number is a table `{ value, source, trust?,
//! note? }` whose source names a key of `[sources]`; a number without one is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::error::DeviceError;
use super::l4t::L4tRelease;
use super::probe::printable;
use super::profile::{
    AllocationLimit, DeviceProfile, Estimate, Gpu, Original, Pitfall, PowerMode, ddr_bandwidth,
};
use super::quantity::Quantity;
use super::wire::{
    BoardFile, GpuTable, HeldTable, LimitTable, ModeTable, OriginalTable, PitfallTable, Stated,
};
use crate::input::in_words;
use crate::sourced::{Sourced, Trust};
use crate::units::{Bytes, BytesPerSecond};

/// Reads and checks a device file; `file` is its name for messages.
///
/// # Errors
/// [`DeviceError::Syntax`] where the text is not TOML or a field is missing, unknown or of another
/// shape; [`DeviceError::Field`] where a value is implausible, has no source, or contradicts another.
pub(super) fn parse(file: &str, text: &str) -> Result<DeviceProfile, DeviceError> {
    let board: BoardFile = toml::from_str(text).map_err(|error| DeviceError::Syntax {
        file: file.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: in_words(error.message())
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    })?;
    check(file, &board)
}

/// Checks what a device file says; `file` is its name for messages.
///
/// # Errors
/// [`DeviceError::Field`] as [`parse`].
pub(super) fn check(file: &str, board: &BoardFile) -> Result<DeviceProfile, DeviceError> {
    Reader {
        file,
        sources: &board.sources,
    }
    .profile(board)
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// Reads and checks the tables of a file; for errors it knows the file's name, and for numbers the sources.
struct Reader<'a> {
    file: &'a str,
    sources: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn refuse(&self, field: &str, value: impl ToString, rule: impl Into<String>) -> DeviceError {
        // Both may hold text of the file, which an error prints on one line.
        DeviceError::Field {
            file: self.file.to_owned(),
            field: printable(field),
            value: printable(&value.to_string()),
            rule: rule.into(),
        }
    }

    fn profile(&self, board: &BoardFile) -> Result<DeviceProfile, DeviceError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if board.id.is_empty() || !board.id.chars().all(plain) {
            return Err(self.refuse(
                "id",
                &board.id,
                "is not an id; use lower-case letters, digits and `-`",
            ));
        }
        self.name("name", &board.name)?;
        let total = self.number("memory.total", &board.memory.total)?;
        let bus_bits = self.optional("memory.bus_bits", &board.memory.bus_bits)?;
        let gpu = board.gpu.as_ref().map(|gpu| self.gpu(gpu)).transpose()?;
        let modes = board
            .mode
            .iter()
            .map(|mode| self.mode(mode, gpu.as_ref(), bus_bits.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        self.distinct(&modes)?;
        let default_mode = modes
            .iter()
            .find(|mode| mode.is_called(&board.default_mode))
            .cloned();
        let default_mode = default_mode.ok_or_else(|| {
            let names: Vec<_> = modes.iter().map(|mode| mode.name.as_str()).collect();
            let rule = format!(
                "is not one of the modes ({}); name one of them",
                names.join(", ")
            );
            self.refuse("default_mode", &board.default_mode, rule)
        })?;
        let original = board.original.as_ref();
        let original = original
            .map(|original| self.original(original, &modes))
            .transpose()?;
        Ok(DeviceProfile {
            id: board.id.clone(),
            name: board.name.clone(),
            compatible: board.compatible.clone(),
            system_headless: self.held("memory.headless", &board.memory.headless, total.value)?,
            system_desktop: self.held("memory.desktop", &board.memory.desktop, total.value)?,
            total_memory: total,
            fragmented: self.optional("memory.fragmented", &board.memory.fragmented)?,
            bus_bits,
            gpu,
            cpu: None,
            modes,
            default_mode,
            original,
            at_hand: None,
            allocation_limits: self.each(
                "allocation_limit",
                &board.allocation_limit,
                Self::limit,
            )?,
            pitfalls: self.each("pitfall", &board.pitfall, Self::pitfall)?,
        })
    }

    fn name(&self, field: &str, name: &str) -> Result<(), DeviceError> {
        if printable(name) == name && !name.is_empty() {
            return Ok(());
        }
        let rule = "is not a display name; write up to 128 printable characters";
        Err(self.refuse(field, name, rule))
    }

    fn original(
        &self,
        original: &OriginalTable,
        modes: &[PowerMode],
    ) -> Result<Original, DeviceError> {
        self.name("original.name", &original.name)?;
        self.source("original", &original.source)?;
        let is_known = |name: &&String| modes.iter().any(|mode| mode.name == **name);
        if let Some(unknown) = original.modes.iter().find(|name| !is_known(name)) {
            let rule = "is not one of the board's modes; name its original ones";
            return Err(self.refuse("original.modes", unknown, rule));
        }
        if !original.modes.contains(&original.default_mode) {
            let rule = "is not one of `original.modes`; name one of them";
            return Err(self.refuse("original.default_mode", &original.default_mode, rule));
        }
        Ok(Original {
            name: original.name.clone(),
            default_mode: original.default_mode.clone(),
            modes: original.modes.clone(),
        })
    }

    fn each<T, U>(
        &self,
        field: &str,
        rows: &[T],
        read: impl Fn(&Self, &str, &T) -> Result<U, DeviceError>,
    ) -> Result<Vec<U>, DeviceError> {
        let indexed = rows.iter().enumerate();
        indexed
            .map(|(index, row)| read(self, &format!("{field}[{index}]"), row))
            .collect()
    }

    fn source(&self, field: &str, key: &str) -> Result<String, DeviceError> {
        match self.sources.get(key).map(|source| source.trim()) {
            Some("") => Err(self.refuse(
                &format!("sources.{key}"),
                "",
                "is empty; say where its numbers are from",
            )),
            Some(source) => Ok(source.to_owned()),
            None => Err(self.refuse(
                &format!("{field}.source"),
                key,
                "is not a key of [sources]; add it there, so that the number has a source",
            )),
        }
    }

    fn stated<T>(&self, field: &str, stated: &Stated, value: T) -> Result<Sourced<T>, DeviceError> {
        let source = self.source(field, &stated.source)?;
        if stated.trust == Trust::Derived
            && stated
                .note
                .as_ref()
                .is_none_or(|note| note.trim().is_empty())
        {
            return Err(self.refuse(
                field,
                stated.value.text(),
                "is derived without a note; add `note` saying how",
            ));
        }
        Ok(Sourced {
            value,
            source,
            trust: stated.trust,
            note: stated.note.clone(),
        })
    }

    fn number<T: Quantity>(&self, field: &str, stated: &Stated) -> Result<Sourced<T>, DeviceError> {
        let text = stated.value.text();
        let value = T::read(&text).ok_or_else(|| self.refuse(field, &text, T::RULE))?;
        self.stated(field, stated, value)
    }

    fn optional<T: Quantity>(
        &self,
        field: &str,
        stated: &Option<Stated>,
    ) -> Result<Option<Sourced<T>>, DeviceError> {
        stated
            .as_ref()
            .map(|stated| self.number(field, stated))
            .transpose()
    }

    fn held(
        &self,
        field: &str,
        held: &HeldTable,
        total: Bytes,
    ) -> Result<Estimate<Sourced<Bytes>>, DeviceError> {
        let low: Sourced<Bytes> = self.number(&format!("{field}.low"), &held.low)?;
        let expected: Sourced<Bytes> = self.number(&format!("{field}.expected"), &held.expected)?;
        let high: Sourced<Bytes> = self.number(&format!("{field}.high"), &held.high)?;
        if low.value > expected.value || expected.value > high.value {
            return Err(self.refuse(
                field,
                expected.value,
                "is not between its low and high; order the three",
            ));
        }
        if high.value >= total {
            let rule =
                format!("is not below memory.total ({total}); the system cannot hold all of it");
            return Err(self.refuse(&format!("{field}.high"), high.value, rule));
        }
        Ok(Estimate {
            low,
            expected,
            high,
        })
    }

    fn gpu(&self, gpu: &GpuTable) -> Result<Gpu, DeviceError> {
        let capability = gpu.compute_capability.value.text();
        let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        if !capability
            .split_once('.')
            .is_some_and(|(major, minor)| digits(major) && digits(minor))
        {
            let rule = "is not a compute capability; write it like \"8.7\"";
            return Err(self.refuse("gpu.compute_capability", capability, rule));
        }
        let count = |field: &str, stated| self.number(&format!("gpu.{field}"), stated);
        Ok(Gpu {
            compute_capability: self.stated(
                "gpu.compute_capability",
                &gpu.compute_capability,
                capability,
            )?,
            sm_count: count("sm_count", &gpu.sm_count)?,
            cuda_cores: count("cuda_cores", &gpu.cuda_cores)?,
            tensor_cores: count("tensor_cores", &gpu.tensor_cores)?,
            fp16_per_sm_clock: count("fp16_per_sm_clock", &gpu.fp16_per_sm_clock)?,
            int8_sparse_per_sm_clock: count(
                "int8_sparse_per_sm_clock",
                &gpu.int8_sparse_per_sm_clock,
            )?,
            fp32_per_sm_clock: count("fp32_per_sm_clock", &gpu.fp32_per_sm_clock)?,
        })
    }

    fn mode(
        &self,
        mode: &ModeTable,
        gpu: Option<&Gpu>,
        bus_bits: Option<&Sourced<u64>>,
    ) -> Result<PowerMode, DeviceError> {
        let field = |name: &str| format!("mode[{}].{name}", mode.name);
        if mode.name.trim().is_empty() {
            return Err(self.refuse(
                "mode.name",
                &mode.name,
                "is empty; give the mode the name nvpmodel prints",
            ));
        }
        let mut read = PowerMode {
            name: mode.name.clone(),
            nvpmodel: mode.nvpmodel.clone(),
            since: mode
                .since
                .as_ref()
                .map(|text| self.release(&field("since"), text))
                .transpose()?,
            watts: self.optional(&field("watts"), &mode.watts)?,
            cpu: self.optional(&field("cpu"), &mode.cpu)?,
            gpu: self.optional(&field("gpu"), &mode.gpu)?,
            emc: self.optional(&field("emc"), &mode.emc)?,
            bandwidth: Some(self.number(&field("bandwidth"), &mode.bandwidth)?),
            sm_count: self.optional(&field("sm_count"), &mode.sm_count)?,
            fp16: self.optional(&field("fp16"), &mode.fp16)?,
            int8_sparse: self.optional(&field("int8_sparse"), &mode.int8_sparse)?,
            fp32: self.optional(&field("fp32"), &mode.fp32)?,
        };
        if let (Some(emc), Some(bus), Some(stated)) = (&read.emc, bus_bits, &read.bandwidth) {
            let BytesPerSecond(computed) = ddr_bandwidth(emc.value, bus.value);
            if (stated.value.0 / computed - 1.0).abs() > 0.01 {
                let rule = format!(
                    "is more than 1 % off emc x bus_bits x 2 / 8 = {}; correct one of them, or leave out `emc`",
                    BytesPerSecond(computed).show()
                );
                return Err(self.refuse(&field("bandwidth"), stated.value.show(), rule));
            }
        }
        if let Some(gpu) = gpu {
            let sms = read.sm_count.get_or_insert_with(|| gpu.sm_count.clone());
            if sms.value > gpu.sm_count.value {
                let rule = format!("is more than gpu.sm_count ({})", gpu.sm_count.value);
                return Err(self.refuse(&field("sm_count"), sms.value, rule));
            }
        }
        read.fill_peaks(gpu);
        Ok(read)
    }

    fn distinct(&self, modes: &[PowerMode]) -> Result<(), DeviceError> {
        if modes.is_empty() {
            return Err(self.refuse(
                "mode",
                "[]",
                "is empty; a device needs at least one [[mode]]",
            ));
        }
        let mut seen = BTreeSet::new();
        let clash = modes
            .iter()
            .find(|mode| !seen.insert(mode.name.to_ascii_lowercase()));
        match clash {
            Some(mode) => Err(self.refuse("mode.name", &mode.name, "names two modes; rename one")),
            None => Ok(()),
        }
    }

    fn release(&self, field: &str, text: &str) -> Result<L4tRelease, DeviceError> {
        text.parse().map_err(|()| {
            self.refuse(
                field,
                text,
                "is not an L4T release; write it like \"36.4.7\"",
            )
        })
    }

    fn limit(&self, field: &str, limit: &LimitTable) -> Result<AllocationLimit, DeviceError> {
        let from = self.release(&format!("{field}.from"), &limit.from)?;
        let until = limit
            .until
            .as_ref()
            .map(|text| self.release(&format!("{field}.until"), text))
            .transpose()?;
        if until.is_some_and(|until| until <= from) {
            return Err(self.refuse(
                &format!("{field}.from"),
                from,
                "is not before `until`; swap them",
            ));
        }
        let largest: Sourced<Bytes> = self.number(&format!("{field}.largest"), &limit.largest)?;
        let number = |name, stated: &Option<Stated>| -> Result<_, DeviceError> {
            let field = format!("{field}.{name}");
            let number: Option<Sourced<Bytes>> = self.optional(&field, stated)?;
            Ok((field, number))
        };
        let (field_of_refused, refused) = number("refused", &limit.refused)?;
        let (field_of_granted, granted) = number("granted", &limit.granted)?;
        let above = refused
            .as_ref()
            .filter(|refused| refused.value > largest.value);
        if let Some(refused) = above {
            let rule = "is above `largest`; leave it out, or say what was refused below";
            return Err(self.refuse(&field_of_refused, refused.value, rule));
        }
        let below = granted
            .as_ref()
            .filter(|granted| granted.value < largest.value);
        if let Some(granted) = below {
            let rule = "is below `largest`; leave it out, or say what was granted above";
            return Err(self.refuse(&field_of_granted, granted.value, rule));
        }
        Ok(AllocationLimit {
            from,
            until,
            largest,
            refused,
            granted,
        })
    }

    fn pitfall(&self, field: &str, pitfall: &PitfallTable) -> Result<Pitfall, DeviceError> {
        Ok(Pitfall {
            code: pitfall.code.clone(),
            text: pitfall.text.trim().to_owned(),
            source: self.source(field, &pitfall.source)?,
        })
    }
}
