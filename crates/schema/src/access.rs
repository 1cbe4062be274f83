//! Which role may do what with a type (`access-control.md` §10): letters `c` create, `r` read, `u` update, `d` delete.

use std::fmt;

/// The schema set a caller sees; chosen by the server from account kind and membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Project scope: environment keys, owners, members.
    Project,
    /// A user outside any project.
    User,
    /// An administrator outside any project.
    Admin,
    /// The platform's own helpers.
    Service,
    /// A host's agent.
    Agent,
    /// A registration token.
    Register,
    /// Login requests.
    Token,
}

impl Role {
    /// Every role, in the order of the columns of [`Access`].
    pub const ALL: [Role; 7] =
        [Role::Project, Role::User, Role::Admin, Role::Service, Role::Agent, Role::Register, Role::Token];

    /// May read rows of any account.
    pub fn all_accounts(self) -> bool {
        matches!(self, Role::Admin | Role::Service)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Project => "project",
            Role::User => "user",
            Role::Admin => "admin",
            Role::Service => "service",
            Role::Agent => "agent",
            Role::Register => "register",
            Role::Token => "token",
        })
    }
}

/// Letters per role; a role not named does not see the type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(pub Vec<(Role, &'static str)>);

impl Access {
    /// The letters a role has, if it sees the type.
    pub fn letters(&self, role: Role) -> Option<&'static str> {
        self.0.iter().find(|(named, _)| *named == role).map(|(_, letters)| *letters)
    }

    /// Whether the role has that letter.
    pub fn may(&self, role: Role, letter: char) -> bool {
        self.letters(role).is_some_and(|letters| letters.contains(letter))
    }
}
