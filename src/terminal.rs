//! Messages to the user. Results go to stdout by way of `cli`.

use std::io::Write;

/// One message on stderr. A reader that went away (`2>&1 | head`) is no reason to end a run, as `eprintln!` would.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
