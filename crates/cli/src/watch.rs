//! Lists, once or for as long as somebody looks (`--watch`): redrawn on a terminal, elsewhere each change appended.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use remuda_client::events::Ear;

use crate::failure::{Failure, exit};
use crate::output::{Columns, Format, Item, ListOptions, Out, Section};
use crate::session::Session;

/// Longest time between two looks: ages grow, and a subscription may have ended unheard.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Changes come in swarms; one look is enough for those within this time.
const SWARM: Duration = Duration::from_millis(100);

/// Shows what `gather` finds, again and again if that is asked for.
pub async fn list(
    session: &Session,
    options: &ListOptions,
    gather: impl AsyncFn() -> Result<Vec<Section>, Failure>,
) -> Result<u8, Failure> {
    if !options.watch {
        session.out.sections(gather().await?, &options.shape)?;
        return Ok(exit::DONE);
    }
    let is_table = matches!(session.out.format, Format::Table | Format::Wide);
    let redraws = is_table && std::io::stdout().is_terminal();
    let mut appended = Appended::default();
    let mut ear = None;
    loop {
        if ear.is_none() {
            ear = session.client.feed().listen(&session.client).await.ok();
        }
        match gather().await {
            Ok(sections) if redraws => {
                let mut screen = "\u{1b}[H\u{1b}[2J".to_owned();
                for section in sections {
                    screen.push_str(&session.out.render(section, &options.shape)?);
                }
                session.out.text(&screen)?;
            }
            Ok(sections) => {
                for section in appended.changed(sections) {
                    session.out.text(&appended.out(&session.out).render(section, &options.shape)?)?;
                    appended.is_begun = true;
                }
            }
            // A server that is away comes back; a mistake in the command does not go away.
            Err(failure) if appended.is_begun && failure.exit == exit::NO_SERVER => {
                session.progress.note(&format!("{}; trying again", failure.message));
            }
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(exit::INTERRUPTED);
            }
            () = change(session, &mut ear) => {}
        }
    }
}

/// Returns when something may have changed.
async fn change(session: &Session, ear: &mut Option<Ear>) {
    let Some(open) = ear else { return tokio::time::sleep(LOOK_AGAIN).await };
    match tokio::time::timeout(LOOK_AGAIN, session.client.feed().next(open)).await {
        Ok(Ok(_)) => {
            let rest = async { while session.client.feed().next(open).await.is_ok() {} };
            // Heard for that long, whatever comes.
            drop(tokio::time::timeout(SWARM, rest).await);
        }
        Ok(Err(_)) => *ear = None,
        Err(_) => {}
    }
}

/// What has been printed so far, and so what of a new look is news.
#[derive(Default)]
struct Appended {
    is_begun: bool,
    known: BTreeMap<String, (Columns, Item)>,
}

impl Appended {
    /// One heading, and one object per line.
    fn out(&self, out: &Out) -> Out {
        let format = if out.format == Format::Json { Format::Jsonl } else { out.format };
        Out { format, headers: out.headers && !self.is_begun, ..out.clone() }
    }

    /// Items that are new, other than before, or gone.
    fn changed(&mut self, sections: Vec<Section>) -> Vec<Section> {
        let mut gone = std::mem::take(&mut self.known);
        let mut news: Vec<Section> = Vec::new();
        for Section { columns, mut items } in sections {
            for item in &items {
                self.known.insert(item.id.clone(), (columns, item.clone()));
            }
            items.retain(|item| gone.remove(&item.id).is_none_or(|(_, before)| differs(columns, &before, item)));
            // The first look prints its heading even over nothing.
            if !items.is_empty() || !self.is_begun {
                news.push(Section { columns, items });
            }
        }
        for (_, (columns, mut item)) in gone {
            item.state = "removed".to_owned();
            if let Some(idx) = columns.usual.iter().position(|title| *title == "STATE") {
                item.cells[idx] = "removed".to_owned();
            }
            news.push(Section { columns, items: vec![item] });
        }
        news
    }
}

/// Time going by is no change.
fn differs(columns: Columns, before: &Item, now: &Item) -> bool {
    let titles = columns.usual.iter().chain(columns.wide);
    let cells = before.cells.iter().zip(&now.cells).zip(titles);
    before.state != now.state || cells.into_iter().any(|((before, now), title)| *title != "AGE" && before != now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_appended() {
        let columns = Columns { usual: &["NAME", "STATE", "AGE"], wide: &[] };
        let item = |id: &str, state: &str, age: &str| Item {
            id: id.to_owned(),
            state: state.to_owned(),
            cells: vec![id.to_owned(), state.to_owned(), age.to_owned()],
            ..Item::default()
        };
        let mut appended = Appended::default();
        let mut look = |items: Vec<Item>| -> Vec<Vec<String>> {
            let news = appended.changed(vec![Section { columns, items }]);
            appended.is_begun = true;
            news.into_iter().flat_map(|section| section.items).map(|item| item.cells).collect()
        };
        let cells = |id: &str, state: &str, age: &str| vec![id.to_owned(), state.to_owned(), age.to_owned()];
        assert_eq!(look(vec![item("a", "active", "1s")]), [cells("a", "active", "1s")]);
        assert!(look(vec![item("a", "active", "2s")]).is_empty());
        assert_eq!(look(vec![item("a", "removing", "3s"), item("b", "active", "0s")]).len(), 2);
        assert_eq!(look(vec![item("b", "active", "0s")]), [cells("a", "removed", "3s")]);
    }
}
