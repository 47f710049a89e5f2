//! `millstream cluster quorum`: who decides on the cluster's metadata.

use clap::{Args, Subcommand};
use millstream_client::{Admin, QuorumDescription};
use serde_json::json;

use crate::Global;
use crate::http::AdminHttp;
use crate::output::{Format, Rows, print_json, print_text};
use crate::topic::done;

/// What `cluster quorum` takes.
#[derive(Debug, Args)]
pub struct QuorumArgs {
    #[command(subcommand)]
    change: Option<Change>,
}

/// Changes of who decides.
#[derive(Debug, Subcommand)]
enum Change {
    /// Gives a broker a vote
    #[command(after_help = "Example:\n  millstream cluster quorum add 4")]
    Add {
        /// Id of the broker
        broker: i32,
    },
    /// Takes a broker's vote; it follows on
    #[command(after_help = "Example:\n  millstream cluster quorum remove 3")]
    Remove {
        /// Id of the broker
        broker: i32,
    },
}

/// Shows the quorum, or changes it.
pub async fn run(global: &Global, args: QuorumArgs) -> anyhow::Result<()> {
    let admin = AdminHttp::new(&global.admin);
    match args.change {
        None => show(global).await,
        Some(Change::Add { broker }) => {
            admin.post(&format!("/v1/cluster/quorum/{broker}"), &[], &[])?;
            let text = format!("broker {broker} votes");
            done(global, &text, json!({"broker": broker, "votes": true}))
        }
        Some(Change::Remove { broker }) => {
            admin.delete(&format!("/v1/cluster/quorum/{broker}"))?;
            let text = format!("broker {broker} votes no more");
            done(global, &text, json!({"broker": broker, "votes": false}))
        }
    }
}

async fn show(global: &Global) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let quorum = Admin::new(&client).describe_quorum().await?;
    let members = rows(&quorum);
    if global.output == Format::Json {
        return Ok(print_json(&json!({
            "leader": quorum.leader,
            "epoch": quorum.epoch,
            "decided": quorum.decided,
            "members": members.objects(),
        }))?);
    }
    let leader = match quorum.leader {
        Some(leader) => format!("broker {leader} leads"),
        None => "nobody leads".to_owned(),
    };
    let line = format!(
        "{leader} in epoch {}, {} entries are decided",
        quorum.epoch, quorum.decided
    );
    Ok(print_text(&format!("{line}\n\n{}", members.table()))?)
}

/// Voters and observers, and how far they are.
pub fn rows(quorum: &QuorumDescription) -> Rows {
    let mut rows = Rows::new(&["broker", "role", "address", "log_end", "lag"]);
    let voters = quorum.voters.iter().map(|member| (member, "voter"));
    let observers = quorum.observers.iter().map(|member| (member, "observer"));
    for (member, role) in voters.chain(observers) {
        let role = match quorum.leader == Some(member.id) {
            true => "leader",
            false => role,
        };
        let lag = member.log_end.map(|end| (quorum.decided - end).max(0));
        rows.push([
            json!(member.id),
            json!(role),
            json!(member.address),
            json!(member.log_end),
            json!(lag),
        ]);
    }
    rows
}

pub const EXAMPLE: &str = "\
Examples:
  millstream cluster quorum
  millstream cluster quorum add 4
  millstream cluster quorum remove 1";

#[cfg(test)]
mod tests {
    use millstream_client::QuorumMember;

    use super::*;

    #[test]
    fn members_are_shown_with_their_lag() {
        let member = |id, log_end| QuorumMember {
            id,
            log_end,
            address: None,
        };
        let quorum = QuorumDescription {
            leader: Some(1),
            epoch: 3,
            decided: 40,
            voters: vec![member(1, Some(40)), member(2, Some(37))],
            observers: vec![member(4, None)],
        };
        let shown = rows(&quorum).objects();
        assert_eq!(
            (&shown[0]["role"], &shown[0]["lag"]),
            (&json!("leader"), &json!(0))
        );
        assert_eq!(
            (&shown[1]["role"], &shown[1]["lag"]),
            (&json!("voter"), &json!(3))
        );
        assert_eq!(
            (&shown[2]["role"], &shown[2]["lag"]),
            (&json!("observer"), &json!(null))
        );
    }
}
