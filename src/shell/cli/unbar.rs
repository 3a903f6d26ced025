//! `ringdown user unbar`: who may make no more costly calls, and an order to the running server to let one of them again.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::{
    config::Config,
    shell::{
        admin::{BARRED_PATH, UNBAR_PATH, UnbarOrder, client::Client},
        failure::Failure,
    },
};

/// As the admin API shows it.
#[derive(Debug, Deserialize)]
struct Barred {
    user: String,
    costly_calls: usize,
}

pub(super) fn run(config: &Config, name: Option<String>) -> Result<(), Failure> {
    let server = Client::of(config)?;
    let unavailable = |cause: &str| Failure::Unavailable(format!("the server at {server}: {cause}."));
    let answer = match &name {
        Some(user) => server.post(UNBAR_PATH, &UnbarOrder { user: user.clone() }),
        None => server.get(BARRED_PATH),
    };
    let (status, body) = answer.map_err(|cause| unavailable(&cause))?;
    if status != 200 {
        return Err(unavailable(&format!("it answered {status}")));
    }
    let barred: Vec<Barred> = serde_json::from_str(&body).map_err(|e| unavailable(&e.to_string()))?;
    super::print(&text(&barred));
    Ok(())
}

fn text(barred: &[Barred]) -> String {
    let mut text = String::new();
    for Barred { user, costly_calls } in barred {
        writeln!(text, "{user}: {costly_calls} international and premium calls within 24 hours")
            .expect("strings take everything");
    }
    if barred.is_empty() { "nobody is barred\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_barred_is_a_line() {
        assert_eq!(text(&[]), "nobody is barred\n");
        let barred = [Barred { user: "ann".to_owned(), costly_calls: 30 }];
        assert_eq!(text(&barred), "ann: 30 international and premium calls within 24 hours\n");
    }
}
