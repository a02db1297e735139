//! Single metrics in the OpenMetrics text format

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

pub(crate) fn counter(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeCounterValue,
) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&value, None)
}

pub(crate) fn gauge(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl Number,
) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value.number())
}

pub(crate) fn gauges<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, usize)>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_gauge(&value.number())?;
    }
    Ok(())
}

pub(crate) trait Number {
    fn number(self) -> impl EncodeGaugeValue;
}

impl Number for u32 {
    fn number(self) -> impl EncodeGaugeValue {
        i64::from(self)
    }
}

impl Number for u64 {
    fn number(self) -> impl EncodeGaugeValue {
        i64::try_from(self).unwrap_or(i64::MAX)
    }
}

impl Number for f64 {
    fn number(self) -> impl EncodeGaugeValue {
        self
    }
}

impl Number for usize {
    fn number(self) -> impl EncodeGaugeValue {
        i64::try_from(self).unwrap_or(i64::MAX)
    }
}
