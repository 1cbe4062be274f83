//! State machines as tables. The `actions` map of a resource, the 405/409/422 answers and the options of the
//! `state` field are read from the table; nothing else decides them.

/// The processes of a type.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    pub transitions: &'static [Transition],
}

/// One row of the table: `action` in one of `from` puts the resource in `via` while it runs and in `to` when done.
#[derive(Debug, PartialEq, Eq)]
pub struct Transition {
    /// Lower-case process name, which is also the name of the API action where the type declares one.
    pub action: &'static str,
    pub from: &'static [&'static str],
    pub via: &'static str,
    pub to: &'static str,
}

/// Shorthand for tables.
pub const fn transition(
    action: &'static str,
    from: &'static [&'static str],
    via: &'static str,
    to: &'static str,
) -> Transition {
    Transition { action, from, via, to }
}

impl Machine {
    /// The transition that `action` starts in `state`.
    pub fn start(&self, action: &str, state: &str) -> Option<&'static Transition> {
        self.transitions.iter().find(|row| row.action == action && row.from.contains(&state))
    }

    /// Whether the action is a process of this machine at all (in some state).
    pub fn has(&self, action: &str) -> bool {
        self.transitions.iter().any(|row| row.action == action)
    }

    /// Whether `action` is running in `state`, or `state` is where it ends: asking for it again changes nothing.
    pub fn under_way_or_done(&self, action: &str, state: &str) -> bool {
        self.transitions.iter().any(|row| row.action == action && (row.via == state || row.to == state))
    }

    /// Whether some process is running in that state.
    pub fn is_transitional(&self, state: &str) -> bool {
        self.transitions.iter().any(|row| row.via == state)
    }

    /// The transition that runs in that state, if exactly this state is one's `via`.
    pub fn running(&self, state: &str) -> Option<&'static Transition> {
        self.transitions.iter().find(|row| row.via == state)
    }

    /// Every state, sorted, as in the options of the `state` field.
    pub fn states(&self) -> Vec<&'static str> {
        let mut states: Vec<&'static str> =
            self.transitions.iter().flat_map(|row| row.from.iter().copied().chain([row.via, row.to])).collect();
        states.sort_unstable();
        states.dedup();
        states
    }
}
