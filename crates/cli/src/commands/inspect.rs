//! `inspect`: one thing in full.

use serde_json::Value;

use crate::complete;
use crate::failure::{Failure, exit};
use crate::resolve::Kind;
use crate::session::Session;

/// Show one thing in full.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda inspect shop/web\n  remuda inspect shop/web#2 -o yaml\n  remuda inspect host:node3 --links\n\nSee also: ps, api"
)]
pub struct Args {
    /// Services, stacks, containers, hosts or volumes
    #[arg(required = true, value_name = "NAME", add = complete::things())]
    pub names: Vec<String>,
    /// With the links and actions of the API
    #[arg(long)]
    pub links: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    for name in &args.names {
        let mut resource = session.resolve(name, Kind::ALL).await?.0;
        if let Value::Object(fields) = &mut resource
            && !args.links
        {
            fields.remove("links");
            fields.remove("actions");
            fields.remove("actionLinks");
        }
        session.out.object(&resource)?;
    }
    Ok(exit::DONE)
}
