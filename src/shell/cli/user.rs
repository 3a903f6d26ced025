//! `ringdown user`: works on the database itself; a running server notices.

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs::File,
    io::{BufRead as _, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{acknowledgement, forwarding, place, resync, unbar};
use crate::{
    config::{Config, Directory, Forwarding, Place, User, UserRules},
    shell::{
        entropy,
        failure::Failure,
        run, settings,
        store::{Account, Store},
    },
    types::Secret,
};

/// Extensions that `add` gives out by itself begin here.
const FIRST_EXTENSION: u32 = 1001;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add one user; without a password one is made and shown, once.
    Add(AddOptions),
    /// Add the users of a CSV file (`user,password,extension[,direct_line]`): all of them or, after any error, none.
    Import {
        /// The CSV file, with a header.
        file: PathBuf,
    },
    /// Show all users.
    List,
    /// Send a user's calls elsewhere, under one or more conditions; without any, show where they go.
    Forward(forwarding::Options),
    /// Do not disturb: no phone of the user rings; callers hear that nobody is available, or go to the busy target.
    Dnd {
        /// Name of the user.
        name: String,
        /// Whether it is on.
        state: forwarding::Switch,
    },
    /// Where emergency services are sent when the user calls them on its direct line: give its private address, or show it.
    Address(place::Options),
    /// Whether others use this user's telephones too (a room, a hot desk): then emergency calls carry the company's address.
    Shared {
        /// Name of the user.
        name: String,
        /// Whether they do.
        state: forwarding::Switch,
    },
    /// Make a user's phones fetch their configuration again (check-sync), and show what each said to it.
    Resync(resync::Options),
    /// Show who is barred from international and premium calls after too many of them in a day, or let one of them call again.
    Unbar {
        /// Name of the user; without it, who is barred is shown.
        name: Option<String>,
    },
    /// Remove a user and forget the phones registered for it.
    Remove {
        /// Name of the user.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct AddOptions {
    /// Name of the user, which is also its digest user name.
    name: String,
    /// Internal number; without it the name if that is a number, or the next free one from 1001 on.
    #[arg(long, value_name = "DIGITS")]
    extension: Option<String>,
    /// Outside number in E.164, such as +15550100.
    #[arg(long, value_name = "+NUMBER")]
    direct_line: Option<String>,
    /// Read the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
}

pub(super) fn run(config_file: &Path, command: Command) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    let config = &*settings.config;
    let mut store = run::open_store(config)?;
    let order = command.order();
    let result = match command {
        Command::Add(options) => add(config, &mut store, &options),
        Command::Import { file } => import(config, &mut store, &file),
        Command::List => list(&mut store),
        Command::Forward(options) => forwarding::forward(config, &mut store, &options),
        Command::Dnd { name, state } => forwarding::do_not_disturb(&mut store, &name, state),
        Command::Address(options) => place::address(config, &mut store, &options),
        Command::Shared { name, state } => place::shared(&mut store, &name, state),
        Command::Resync(options) => resync::run(config, options),
        Command::Unbar { name } => unbar::run(config, name),
        Command::Remove { name } => remove(config, &mut store, &name),
    };
    if let Some((action, subject)) = order {
        super::record(&mut store, action, subject.as_deref(), result.as_ref().err())?;
    }
    result
}

impl Command {
    /// Its name, and whom it is about. `None`: it shows no more than who there is, or the server records it.
    fn order(&self) -> Option<(&'static str, Option<String>)> {
        let (action, name) = match self {
            Self::Add(options) => ("user add", &options.name),
            Self::Import { .. } => return Some(("user import", None)),
            Self::Forward(options) => ("user forward", &options.name),
            Self::Dnd { name, .. } => ("user dnd", name),
            Self::Address(options) => ("user address", &options.name),
            Self::Shared { name, .. } => ("user shared", name),
            Self::Remove { name } => ("user remove", name),
            Self::List | Self::Resync(_) | Self::Unbar { .. } => return None,
        };
        Some((action, Some(name.clone())))
    }
}

fn add(config: &Config, store: &mut Store, options: &AddOptions) -> Result<(), Failure> {
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    let extension = options.extension.clone().unwrap_or_else(|| free_extension(&options.name, &directory));
    let password = if options.password_stdin { read_password()? } else { entropy::password(&mut entropy::rng()) };
    let password = Secret::new(password);
    let account = Account::new(&options.name, &extension, options.direct_line.as_deref(), password.clone())
        .map_err(|message| Failure::Usage(format!("{message}.")))?;
    let problems = UserRules::new(config).check(&user_of(config, &account));
    settings::refuse_errors(&problems)?;
    store.add_users(&config.server.domain, &[account]).map_err(|e| run::store_failure(&e))?;
    let mut text = format!("user {} with extension {extension} was added\n", options.name);
    if !options.password_stdin {
        writeln!(text, "password {} (not shown again)", password.expose()).expect("strings take everything");
    }
    writeln!(
        text,
        "Before a telephone is used, its user must know: {}\n`ringdown emergency acknowledge {}` records that.",
        acknowledgement::notice(config).text,
        options.name
    )
    .expect("strings take everything");
    super::print(&text);
    Ok(())
}

fn free_extension(name: &str, directory: &Directory) -> String {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return name.to_owned();
    }
    (FIRST_EXTENSION..)
        .map(|n| n.to_string())
        .find(|n| directory.by_dialled(n).is_none())
        .expect("there are more numbers than users")
}

fn read_password() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|e| Failure::Usage(format!("the password cannot be read from standard input: {e}.")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn import(config: &Config, store: &mut Store, file: &Path) -> Result<(), Failure> {
    let fail = |message: String| Failure::Usage(format!("{}: {message}", file.display()));
    let reader = File::open(file).map_err(|e| fail(format!("{e}.")))?;
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    let rules = UserRules::new(config);
    let judge = |account: &Account| match rules.check(&user_of(config, account)).as_slice() {
        [] => Ok(()),
        problems => Err(problems.iter().map(settings::sentence).collect::<Vec<_>>().join(" ")),
    };
    let accounts = read_accounts(reader, &directory, judge).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|e| format!("{}:{e}", file.display())).collect();
        Failure::Usage(format!("{}\nNo user was added.", lines.join("\n")))
    })?;
    store.add_users(&config.server.domain, &accounts).map_err(|e| run::store_failure(&e))?;
    super::print(&format!(
        "users added: {}\nBefore their telephones are used, they must know: {}\n`ringdown emergency acknowledge` records that.\n",
        accounts.len(),
        acknowledgement::notice(config).text
    ));
    Ok(())
}

/// All accounts of the file, or every error as `line: message`. `judge` has the last word on each.
fn read_accounts(
    mut input: impl Read,
    directory: &Directory,
    judge: impl Fn(&Account) -> Result<(), String>,
) -> Result<Vec<Account>, Vec<String>> {
    let mut text = Vec::new();
    input.read_to_end(&mut text).map_err(|e| vec![format!("1: {e}.")])?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::Fields).from_reader(text.as_slice());
    let columns = Columns::find(&mut reader).map_err(|message| vec![format!("1: {message}.")])?;
    let mut taken = Taken::new(directory);
    let (mut accounts, mut errors) = (Vec::new(), Vec::new());
    for row in reader.records() {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                let line = line_of(&text, error.position());
                errors.push(format!("{line}: {error}."));
                continue;
            }
        };
        let line = line_of(&text, row.position());
        let account = columns.account(&row).and_then(|account| taken.take(&account).map(|()| account));
        match account.map_err(|message| format!("{message}.")).and_then(|account| judge(&account).map(|()| account)) {
            Ok(account) => accounts.push(account),
            Err(message) => errors.push(format!("{line}: {message}")),
        }
    }
    if errors.is_empty() { Ok(accounts) } else { Err(errors) }
}

/// The line a row begins on. The reader's own count falls behind where lines end in CR LF: it begins the next row between
/// the two.
fn line_of(text: &[u8], position: Option<&csv::Position>) -> usize {
    let start = position.and_then(|p| usize::try_from(p.byte()).ok()).unwrap_or(0).min(text.len());
    let skipped = text[start..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    1 + text[..start + skipped].iter().filter(|b| **b == b'\n').count()
}

/// Where each field stands.
struct Columns {
    user: usize,
    password: usize,
    extension: usize,
    direct_line: Option<usize>,
    /// How many there are: a field behind them would be lost.
    count: usize,
}

impl Columns {
    fn find(reader: &mut csv::Reader<impl Read>) -> Result<Self, String> {
        let header = reader.headers().map_err(|e| e.to_string())?;
        let known = ["user", "password", "extension", "direct_line"];
        if let Some(unknown) = header.iter().find(|h| !known.contains(h)) {
            return Err(format!("unknown column `{unknown}`; the columns are user,password,extension[,direct_line]"));
        }
        let column = |name: &str| header.iter().position(|h| h == name);
        let needed = |name| {
            column(name)
                .ok_or_else(|| format!("no column `{name}`; the columns are user,password,extension[,direct_line]"))
        };
        Ok(Self {
            user: needed("user")?,
            password: needed("password")?,
            extension: needed("extension")?,
            direct_line: column("direct_line"),
            count: header.len(),
        })
    }

    fn account(&self, row: &csv::StringRecord) -> Result<Account, String> {
        if row.len() > self.count {
            return Err(format!("{} fields under {} columns; quote a field that holds a comma", row.len(), self.count));
        }
        let field = |index| row.get(index).unwrap_or_default();
        let direct_line = self.direct_line.map(field).filter(|line| !line.is_empty());
        let password = Secret::new(field(self.password).to_owned());
        Account::new(field(self.user), field(self.extension), direct_line, password)
    }
}

/// Names and numbers in use, in the directory and in the rows above.
struct Taken {
    dialled: HashSet<String>,
    direct_lines: HashSet<String>,
}

impl Taken {
    fn new(directory: &Directory) -> Self {
        let dialled = directory.iter().flat_map(|u| [u.name.clone(), u.extension.clone()]).collect();
        Self { dialled, direct_lines: directory.iter().filter_map(|u| u.direct_line.clone()).collect() }
    }

    fn take(&mut self, account: &Account) -> Result<(), String> {
        for (what, value) in [("name", &account.name), ("extension", &account.extension)] {
            if self.dialled.contains(value) {
                return Err(format!("the {what} `{value}` is in use; choose another"));
            }
        }
        if let Some(line) = account.direct_line.as_ref().filter(|line| self.direct_lines.contains(*line)) {
            return Err(format!("the direct line `{line}` is in use; choose another"));
        }
        self.dialled.extend([account.name.clone(), account.extension.clone()]);
        self.direct_lines.extend(account.direct_line.clone());
        Ok(())
    }
}

fn user_of(config: &Config, account: &Account) -> User {
    User {
        name: account.name.clone(),
        extension: account.extension.clone(),
        direct_line: account.direct_line.clone(),
        credential: account.credential(&config.server.domain),
        forwarding: Forwarding::default(),
        place: Place::default(),
    }
}

fn list(store: &mut Store) -> Result<(), Failure> {
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    let mut text = format!("{:<24} {:<16} {:<18} {}\n", "user", "extension", "direct line", "calls");
    for user in directory.iter() {
        let line = user.direct_line.as_deref().unwrap_or("-");
        let way = forwarding::way(&user.forwarding);
        writeln!(text, "{:<24} {:<16} {line:<18} {way}", user.name, user.extension).expect("strings take everything");
    }
    super::print(&text);
    Ok(())
}

fn remove(config: &Config, store: &mut Store, name: &str) -> Result<(), Failure> {
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    refuse_member(config, &directory, name)?;
    store.remove_user(name).map_err(|e| run::store_failure(&e))?;
    super::print(&format!("user {name} was removed\n"));
    Ok(())
}

/// The configuration says that there is such a user.
pub(super) fn refuse_member(config: &Config, directory: &Directory, name: &str) -> Result<(), Failure> {
    let is_member = |member: &String| directory.by_dialled(member).is_some_and(|user| user.name == name);
    if let Some(group) = config.groups.iter().find(|group| group.members.iter().any(is_member)) {
        return Err(Failure::Usage(format!(
            "user {name} is a member of [group.{}]. Remove it there first.",
            group.name
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sip::digest::Credential;

    fn directory() -> Directory {
        let credential = Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) };
        let user = |name: &str, extension: &str| User {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: Some(format!("+1555{extension}")),
            credential: credential.clone(),
            forwarding: Forwarding::default(),
            place: Place::default(),
        };
        Directory::new([user("alice", "1001"), user("1002", "1002")])
    }

    #[expect(clippy::unnecessary_wraps, reason = "the signature of a judge")]
    fn no_objection(_: &Account) -> Result<(), String> {
        Ok(())
    }

    #[test]
    fn a_good_file_gives_every_account() {
        let text = "extension,user,password,direct_line\n1003, bob ,secret-one,+15550103\n1004,carol,secret-two,\n";
        let accounts = read_accounts(text.as_bytes(), &directory(), no_objection).unwrap();
        assert_eq!(accounts.len(), 2);
        assert_eq!((accounts[0].name.as_str(), accounts[0].extension.as_str()), ("bob", "1003"));
        assert_eq!(accounts[0].direct_line.as_deref(), Some("+15550103"));
        assert_eq!(accounts[1].direct_line, None);
    }

    #[test]
    fn every_wrong_line_is_named_by_its_number_and_cause() {
        let text = "user,password,extension,direct_line\n\
                    bob,secret-one,1003,\n\
                    a b,secret-one,1004,\n\
                    carol,short,1005,\n\
                    dave,secret-one,10x6,\n\
                    erin,secret-one,1003,\n\
                    alice,secret-one,1007,\n\
                    frank,secret-one,1008,+15551001\n\
                    grace,secret-one,1009,5550100\n\
                    heidi\n";
        let errors = read_accounts(text.as_bytes(), &directory(), no_objection).unwrap_err();
        let expected = [
            (3, "user `a b`"),
            (4, "password"),
            (5, "extension `10x6`"),
            (6, "extension `1003` is in use"),
            (7, "name `alice` is in use"),
            (8, "direct line `+15551001` is in use"),
            (9, "direct line `5550100`"),
            (10, "extension ``"),
        ];
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, (line, cause)) in errors.iter().zip(expected) {
            assert!(error.starts_with(&format!("{line}: ")) && error.contains(cause), "{error}");
            assert!(!error.contains("secret-one") && !error.contains("short"), "{error}");
        }
    }

    #[test]
    fn what_the_judge_objects_to_is_named_beside_the_other_errors() {
        let text = "user,password,extension\nbob,secret-one,911\ncarol,short,1004\n";
        let judge = |account: &Account| match account.extension.as_str() {
            "911" => Err("an emergency number.".to_owned()),
            _ => Ok(()),
        };
        let errors = read_accounts(text.as_bytes(), &directory(), judge).unwrap_err();
        assert_eq!(errors[0], "2: an emergency number.");
        assert!(errors.len() == 2 && errors[1].starts_with("3: "), "{errors:?}");
    }

    #[test]
    fn a_field_without_a_column_is_not_lost_and_lines_are_counted_however_they_end() {
        let text = "user,password,extension\r\nbob,secret-one,1003\r\n\r\ncarol,secret-one,1004,+15550104\r\n";
        let errors = read_accounts(text.as_bytes(), &directory(), no_objection).unwrap_err();
        assert_eq!(errors, ["4: 4 fields under 3 columns; quote a field that holds a comma."]);
        assert_eq!(
            read_accounts(text.replace(",+15550104", "").as_bytes(), &directory(), no_objection).unwrap().len(),
            2
        );
    }

    #[test]
    fn a_missing_or_unknown_column_is_named() {
        for (header, cause) in [("user,password\n", "extension"), ("user,password,extension,pin\n", "pin")] {
            let errors = read_accounts(header.as_bytes(), &directory(), no_objection).unwrap_err();
            assert!(errors.len() == 1 && errors[0].starts_with("1: ") && errors[0].contains(cause), "{errors:?}");
        }
    }

    #[test]
    fn an_extension_is_the_name_if_it_is_a_number_or_the_next_free_one() {
        assert_eq!(free_extension("4711", &directory()), "4711");
        assert_eq!(free_extension("bob", &directory()), "1003");
    }
}
