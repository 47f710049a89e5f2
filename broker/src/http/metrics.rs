//! `/metrics`: what is counted, and what can be read off the state.

mod cluster;
mod family;
mod partitions;
mod transforms;

use std::fmt::{self, Write};
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::encoding::text::{encode_eof, encode_registry};

use super::error::ApiError;
use super::groups::{OffsetBody, all_offsets};
use crate::context::Context;

/// Everything, in the text format of OpenMetrics.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, description = "Metric families", body = String, content_type = "application/openmetrics-text")))]
pub async fn metrics(State(context): State<Arc<Context>>) -> Result<impl IntoResponse, ApiError> {
    let mut text = String::new();
    let offsets = all_offsets(&context).await;
    let written = encode_registry(&mut text, &context.metrics.registry)
        .and_then(|()| partitions::write(&context, &mut text))
        .and_then(|()| write_lag(&offsets, &mut text))
        .and_then(|()| write_plugins(&context, &mut text))
        .and_then(|()| transforms::write(&context, &mut text))
        .and_then(|()| cluster::write(&context, &mut text))
        .and_then(|()| encode_eof(&mut text));
    written.map_err(|fmt::Error| {
        ApiError::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "metrics",
            "metrics cannot be written",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn write_lag(offsets: &[(String, OffsetBody)], out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "# HELP millstream_group_lag_records Records that a group has not read yet.\n# TYPE millstream_group_lag_records gauge"
    )?;
    for (group, offset) in offsets {
        let Some(lag) = offset.lag else { continue };
        let (group, topic, partition) = (escape(group), escape(&offset.topic), offset.partition);
        let labels = format!("group=\"{group}\",topic=\"{topic}\",partition=\"{partition}\"");
        writeln!(out, "millstream_group_lag_records{{{labels}}} {lag}")?;
    }
    Ok(())
}

fn write_plugins(context: &Context, out: &mut String) -> fmt::Result {
    let stats = context.plugins.stats();
    let counters: [(&str, &str, CounterValue); 4] = [
        ("plugin_calls", "Calls of a plugin", |stats| {
            stats.calls.to_string()
        }),
        ("plugin_records", "Records that a plugin was given", |stats| {
            stats.records.to_string()
        }),
        (
            "plugin_errors",
            "Records and calls that a plugin failed on",
            |stats| stats.errors.to_string(),
        ),
        ("plugin_seconds", "Time spent in a plugin", |stats| {
            format!("{:.9}", stats.nanoseconds as f64 / 1e9)
        }),
    ];
    for (name, help, value) in counters {
        writeln!(
            out,
            "# HELP millstream_{name} {help}.\n# TYPE millstream_{name} counter"
        )?;
        for stats in &stats {
            let (plugin, topic) = (escape(&stats.plugin), escape(&stats.topic));
            let labels = format!(
                "plugin=\"{plugin}\",version=\"{}\",topic=\"{topic}\"",
                stats.version
            );
            writeln!(out, "millstream_{name}_total{{{labels}}} {}", value(stats))?;
        }
    }
    Ok(())
}

/// Reads one counter off what a plugin has done.
type CounterValue = fn(&crate::plugins::Stats) -> String;

/// A label's value as the format has it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use axum::body::to_bytes;
    use millstream_kafka::ApiKey;

    use super::*;
    use crate::{Broker, Settings};

    /// Every word that begins as our metrics do.
    fn metrics_in(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("millstream_")).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_dashboard_shows_only_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::of_test(&dir.path().join("data"));
        let broker = Broker::start(settings).await.unwrap();
        let context = broker.context().clone();
        context.metrics.request(ApiKey::Produce, Duration::from_millis(1));
        context.metrics.workers.committed("t", Duration::from_millis(1));
        let answer = metrics(State(context)).await.unwrap().into_response();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut names = BTreeSet::new();
        for family in families {
            let (name, kind) = family.split_once(' ').unwrap();
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            names.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
        }
        let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
        let mut shown = 0;
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                for name in metrics_in(target["expr"].as_str().unwrap()) {
                    assert!(names.contains(name), "/metrics has no {name}");
                    shown += 1;
                }
            }
        }
        assert!(shown > 20, "{shown} metrics are no dashboard");
        broker.shutdown().await;
    }

    const DASHBOARD: &str = include_str!("../../../docs/grafana-dashboard.json");
}
