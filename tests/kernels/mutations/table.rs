//! Bugs to plant in kernels: each is a change of text and a case of tests/support/cases.rs that
//! must then fail.

/// The modes of the host executor that must find it.
#[derive(Clone, Copy, PartialEq)]
pub enum By {
    /// At least one of the fast ones: by a report, a wrong number, or different bits in another
    /// order.
    Fast,
    /// Only the hooked one: whether the numbers are wrong depends on luck.
    Hooked,
}

pub struct Mutation {
    /// In `kernels/`.
    pub file: &'static str,
    pub what: &'static str,
    /// Must occur in the file exactly once.
    pub from: &'static str,
    pub to: &'static str,
    /// Name of the case in tests/support/cases.rs.
    pub case: &'static str,
    pub by: By,
}

pub const fn row(
    file: &'static str,
    what: &'static str,
    from: &'static str,
    to: &'static str,
    case: &'static str,
    by: By,
) -> Mutation {
    Mutation { file, what, from, to, case, by }
}
