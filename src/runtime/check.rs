//! The rules that the form of a runtime profile alone does not hold: bounds of values, and a source for every number.

use super::profile::{ComputeRule, RuntimeProfile};

impl RuntimeProfile {
    /// Holds the values to their bounds, and every number to a source that is there. The error names the field and what
    /// is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let (memory, speed, prefill) = (&self.memory, &self.speed, &self.speed.prefill);
        let attention = &speed.attention;
        self.lines.check()?;
        for (field, source) in self.cited() {
            if !self.sources.contains_key(&source) {
                return Err(format!(
                    "`{field}` cites the source `{source}`, which [sources] does not have"
                ));
            }
        }
        if let Some(key) = self
            .sources
            .iter()
            .find(|(_, text)| text.trim().is_empty())
            .map(|(key, _)| key)
        {
            return Err(format!("source `{key}` is empty"));
        }
        let process = memory.process_bytes.iter();
        for (field, range) in process
            .map(|range| ("memory.process_bytes", range))
            .chain([
                ("memory.runtime_bytes", &memory.runtime_bytes),
                ("speed.bandwidth_efficiency", &speed.bandwidth_efficiency),
                ("speed.cost_scale", &speed.cost_scale),
                ("speed.spread", &speed.spread),
                ("speed.launch_seconds", &speed.launch_seconds),
                ("speed.host_seconds", &speed.host_seconds),
                ("speed.prefill.scale", &prefill.scale),
                ("speed.prefill.request_seconds", &prefill.request_seconds),
            ])
            .chain(
                speed
                    .format_spread
                    .values()
                    .map(|range| ("speed.format_spread", range)),
            )
        {
            let ordered =
                0.0 <= range.low && range.low <= range.expected && range.expected <= range.high;
            if !ordered || !range.high.is_finite() {
                return Err(format!(
                    "`{field}` must have 0 <= low <= expected <= high, all finite"
                ));
            }
        }
        if !(speed.bandwidth_efficiency.low > 0.0 && speed.bandwidth_efficiency.high <= 1.0) {
            return Err(
                "`speed.bandwidth_efficiency` is a share of the bandwidth: above 0, at most 1"
                    .to_owned(),
            );
        }
        if !(speed.overlap_norm.value >= 1.0 && speed.overlap_norm.value <= 64.0) {
            return Err(format!(
                "`speed.overlap_norm` is {}, must be from 1 to 64",
                speed.overlap_norm.value
            ));
        }
        if speed.reference_clock_hz.value.is_nan() || speed.reference_clock_hz.value <= 0.0 {
            return Err("`speed.reference_clock_hz` must be above 0".to_owned());
        }
        let conditions = speed.conditions.iter();
        let factors = conditions.flat_map(|conditions| {
            let slower = [&conditions.governed, &conditions.old_system];
            slower
                .into_iter()
                .flat_map(|slower| [slower.decode, slower.prefill])
        });
        if let Some(factor) = factors.into_iter().find(|f| !(0.1..=10.0).contains(f)) {
            return Err(format!(
                "`speed.conditions` has the factor {factor}, must be from 0.1 to 10"
            ));
        }
        for (field, learning) in [
            ("speed.learning", &speed.learning),
            ("speed.prefill.learning", &prefill.learning),
        ] {
            let widths = [
                learning.common,
                learning.bandwidth,
                learning.arithmetic,
                learning.cache,
                learning.launch,
                learning.host,
                learning.model,
                learning.run,
            ];
            if widths.iter().any(|width| !(0.0..=3.0).contains(width)) {
                return Err(format!(
                    "`{field}` has standard deviations of logarithms: each from 0 to 3"
                ));
            }
        }
        let encoder = speed.encoder.iter();
        if encoder.into_iter().any(|share| {
            let ordered = share.low <= share.expected && share.expected <= share.high;
            !(share.low > 0.0 && ordered && share.high <= 1.0)
        }) {
            return Err("`speed.encoder` is a share: 0 < low <= expected <= high <= 1".to_owned());
        }
        let tile = prefill.expert_tile_tokens.as_ref();
        if tile.is_some_and(|tile| !(1..=4096).contains(&tile.value)) {
            return Err("`speed.prefill.expert_tile_tokens` must be from 1 to 4096".to_owned());
        }
        if memory.context_multiple.value == 0 {
            return Err("`memory.context_multiple` must be at least 1".to_owned());
        }
        if memory
            .pool_fraction
            .as_ref()
            .is_some_and(|share| !(share.value > 0.0 && share.value <= 1.0))
        {
            return Err(
                "`memory.pool_fraction` is a share of the memory: above 0, at most 1".to_owned(),
            );
        }
        for (field, bytes) in [
            ("vocabulary_entry_bytes", &memory.vocabulary_entry_bytes),
            ("loading_entry_bytes", &memory.loading_entry_bytes),
        ] {
            if bytes
                .as_ref()
                .is_some_and(|bytes| !(0.0..=65536.0).contains(&bytes.value))
            {
                return Err(format!("`memory.{field}` must be from 0 to 65536"));
            }
        }
        let is_size = |bytes: f64| (0.0..=65536.0).contains(&bytes);
        if let Some(bytes) = &memory.tokenizer_bytes
            && !(is_size(bytes.entry) && is_size(bytes.merge))
        {
            return Err("`memory.tokenizer_bytes` must be from 0 to 65536 each".to_owned());
        }
        if speed.cost.is_empty() {
            return Err("`speed.cost` has no format".to_owned());
        }
        if let Some((name, _)) = speed
            .cost
            .iter()
            .find(|(name, cost)| !cost.bits_as(name).is_finite())
        {
            return Err(format!(
                "`speed.cost.{name}` is not the name of a format, so it must state its `bits`"
            ));
        }
        let costs = speed
            .cost
            .iter()
            .map(|(name, cost)| (name.as_str(), cost.cycles));
        let cycles = [
            ("row_cycles", speed.row_cycles.value),
            ("state_cycles", speed.state_cycles.value),
            ("batch_share", speed.batch_share.value),
            (
                "eager_launch_seconds",
                speed
                    .eager_launch_seconds
                    .as_ref()
                    .map_or(0.0, |eager| eager.value),
            ),
            ("prefill.quantized_cycles", prefill.quantized_cycles.value),
            ("prefill.float_cycles", prefill.float_cycles.value),
            ("prefill.tile_cycles", prefill.tile_cycles.value),
            ("prefill.scan_cycles", prefill.scan_cycles.value),
            ("prefill.activation_bytes", prefill.activation_bytes.value),
            ("attention.byte_cycles", attention.byte_cycles.value),
            ("attention.spill_tokens", attention.spill_tokens.value),
            ("attention.mac_cycles", attention.mac_cycles.value),
            ("attention.score_cycles", attention.score_cycles.value),
            (
                "prefill.ubatch_layer_seconds",
                prefill.ubatch_layer_seconds.value,
            ),
        ];
        match costs
            .chain(cycles)
            .find(|(_, value)| !(value.is_finite() && *value >= 0.0))
        {
            Some((field, value)) => Err(format!(
                "`speed.{field}` is {value}, must be finite and not negative"
            )),
            None => Ok(()),
        }
    }

    /// Every field with a source and the key it cites.
    fn cited(&self) -> Vec<(String, String)> {
        let (memory, speed, prefill) = (&self.memory, &self.speed, &self.speed.prefill);
        let attention = &speed.attention;
        let compute = match &memory.compute {
            ComputeRule::Ggml { source, .. }
            | ComputeRule::Activations { source }
            | ComputeRule::Fraction { source, .. } => source,
        };
        let mut cited: Vec<(String, String)> = [
            ("loads", &self.loads.source),
            ("memory.runtime_bytes", &memory.runtime_bytes.source),
            (
                "memory.duplicates_tied_embedding",
                &memory.duplicates_tied_embedding.source,
            ),
            ("memory.context_multiple", &memory.context_multiple.source),
            ("memory.kv_allocation", &memory.kv_allocation.source),
            ("memory.outputs", &memory.outputs.source),
            ("memory.compute", compute),
            ("speed.overlap_norm", &speed.overlap_norm.source),
            (
                "speed.bandwidth_efficiency",
                &speed.bandwidth_efficiency.source,
            ),
            ("speed.cost_scale", &speed.cost_scale.source),
            ("speed.row_cycles", &speed.row_cycles.source),
            ("speed.state_cycles", &speed.state_cycles.source),
            ("speed.batch_share", &speed.batch_share.source),
            ("speed.spread", &speed.spread.source),
            ("speed.launch_seconds", &speed.launch_seconds.source),
            ("speed.reference_clock_hz", &speed.reference_clock_hz.source),
            ("speed.host_seconds", &speed.host_seconds.source),
            ("speed.learning", &speed.learning.source),
            ("speed.prefill.learning", &prefill.learning.source),
            (
                "speed.prefill.quantized_cycles",
                &prefill.quantized_cycles.source,
            ),
            ("speed.prefill.float_cycles", &prefill.float_cycles.source),
            ("speed.prefill.tile_cycles", &prefill.tile_cycles.source),
            ("speed.prefill.scan_cycles", &prefill.scan_cycles.source),
            (
                "speed.prefill.activation_bytes",
                &prefill.activation_bytes.source,
            ),
            ("speed.attention.byte_cycles", &attention.byte_cycles.source),
            (
                "speed.attention.spill_tokens",
                &attention.spill_tokens.source,
            ),
            ("speed.attention.mac_cycles", &attention.mac_cycles.source),
            (
                "speed.attention.score_cycles",
                &attention.score_cycles.source,
            ),
            (
                "speed.prefill.ubatch_layer_seconds",
                &prefill.ubatch_layer_seconds.source,
            ),
            ("speed.prefill.scale", &prefill.scale.source),
            (
                "speed.prefill.request_seconds",
                &prefill.request_seconds.source,
            ),
        ]
        .map(|(field, source)| (field.to_owned(), source.clone()))
        .to_vec();
        let optional = [
            ("memory.pool_fraction", &memory.pool_fraction),
            (
                "memory.vocabulary_entry_bytes",
                &memory.vocabulary_entry_bytes,
            ),
            ("memory.loading_entry_bytes", &memory.loading_entry_bytes),
        ];
        let at_once = memory.weights_at_once.iter();
        cited.extend(
            at_once.map(|known| ("memory.weights_at_once".to_owned(), known.source.clone())),
        );
        let tokenizer = memory.tokenizer_bytes.iter();
        cited.extend(
            tokenizer.map(|bytes| ("memory.tokenizer_bytes".to_owned(), bytes.source.clone())),
        );
        let block = memory.prefix_block.iter();
        cited.extend(block.map(|block| ("memory.prefix_block".to_owned(), block.source.clone())));
        let process = memory.process_bytes.iter();
        cited
            .extend(process.map(|bytes| ("memory.process_bytes".to_owned(), bytes.source.clone())));
        for (field, number) in optional {
            cited.extend(
                number
                    .iter()
                    .map(|number| (field.to_owned(), number.source.clone())),
            );
        }
        if let Some(eager) = &speed.eager_launch_seconds {
            cited.push((
                "speed.eager_launch_seconds".to_owned(),
                eager.source.clone(),
            ));
        }
        if let Some(batch) = &speed.vector_batch {
            cited.push(("speed.vector_batch".to_owned(), batch.source.clone()));
        }
        if let Some(tile) = &prefill.expert_tile_tokens {
            cited.push((
                "speed.prefill.expert_tile_tokens".to_owned(),
                tile.source.clone(),
            ));
        }
        if let Some(encoder) = &speed.encoder {
            cited.push(("speed.encoder".to_owned(), encoder.source.clone()));
        }
        if let Some(conditions) = &speed.conditions {
            for (name, slower) in [
                ("governed", &conditions.governed),
                ("old_system", &conditions.old_system),
            ] {
                cited.push((format!("speed.conditions.{name}"), slower.source.clone()));
            }
        }
        cited.extend(self.lines.cited());
        cited.extend(
            speed
                .cost
                .iter()
                .map(|(name, cost)| (format!("speed.cost.{name}"), cost.source.clone())),
        );
        cited
    }
}
