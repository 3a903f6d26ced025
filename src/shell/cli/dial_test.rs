//! `ringdown dial-test`: the server's own classification of dialled numbers, for one or for a table of them.

use std::io::{Read, Write};

use clap::Args;

use crate::{
    policy::emergency::{dial_test, table},
    shell::failure::Failure,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Country of the site, as ISO 3166-1 alpha-2; without it each row names its own in a column `region`.
    #[arg(long, value_name = "XX")]
    region: Option<String>,
    /// What is dialled; without it, CSV with a header `dialed,region,...` is read from standard input.
    dialed: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    if let Some(region) = options.region.as_deref().filter(|r| table::region(&r.to_ascii_uppercase()).is_none()) {
        return Err(usage(&format!("`{region}` is not a region: an ISO 3166-1 code such as US or DE is needed")));
    }
    if let Some(dialed) = &options.dialed {
        let region = options.region.as_deref().ok_or_else(|| usage("--region XX is needed with a number"))?;
        return classify_one(dialed, region);
    }
    let mut out = Vec::new();
    classify_rows(std::io::stdin().lock(), options.region.as_deref(), &mut out)?;
    super::print(&String::from_utf8_lossy(&out));
    Ok(())
}

/// One row without a header.
fn classify_one(dialed: &str, region: &str) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([dialed, region, dial_test(region, dialed)]).map_err(|e| usage(&e.to_string()))?;
    let out = writer.into_inner().map_err(|e| usage(&e.to_string()))?;
    super::print(&String::from_utf8_lossy(&out));
    Ok(())
}

/// Writes `dialed,region,class`, one row for each row read. A row's own region goes before the option's.
fn classify_rows(input: impl Read, region: Option<&str>, output: impl Write) -> Result<(), Failure> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let header = reader.headers().map_err(|e| usage(&e.to_string()))?.clone();
    let column = |name| header.iter().position(|h| h.trim() == name);
    let dialed_column = column("dialed").ok_or_else(|| usage("the header has no column `dialed`"))?;
    let region_column = column("region");
    let mut writer = csv::Writer::from_writer(output);
    let mut write = |row: [&str; 3]| writer.write_record(row).map_err(|e| usage(&e.to_string()));
    write(["dialed", "region", "class"])?;
    for row in reader.records() {
        let row = row.map_err(|e| usage(&e.to_string()))?;
        let own = region_column.and_then(|i| row.get(i)).map(str::trim).filter(|r| !r.is_empty());
        let line = row.position().map_or(0, csv::Position::line);
        let region = own.or(region).ok_or_else(|| usage(&format!("line {line}: no region, and no --region XX")))?;
        let dialed = row.get(dialed_column).unwrap_or_default();
        write([dialed, region, dial_test(region, dialed)])?;
    }
    Ok(())
}

fn usage(message: &str) -> Failure {
    Failure::Usage(format!("dial-test: {message}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(input: &str, region: Option<&str>) -> Result<String, Failure> {
        let mut out = Vec::new();
        classify_rows(input.as_bytes(), region, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_row_is_classified_in_its_own_region() {
        let out = classified("region,dialed,note\nUS,911,x\nDE,110,\nUS,1001,\n", None).unwrap();
        assert_eq!(out, "dialed,region,class\n911,US,emergency\n110,DE,emergency\n1001,US,extension\n");
    }

    #[test]
    fn the_option_stands_in_for_a_missing_region_only() {
        let out = classified("dialed,region\n911,\n110,DE\n", Some("US")).unwrap();
        assert_eq!(out, "dialed,region,class\n911,US,emergency\n110,DE,emergency\n");
        let failure = classified("dialed\n911\n", None).unwrap_err();
        assert!(failure.to_string().contains("line 2"), "{failure}");
        assert!(classified("number\n911\n", Some("US")).is_err());
    }

    #[test]
    fn a_region_that_does_not_exist_is_the_operators_mistake_and_no_answer() {
        let options = |region: &str| Options { region: Some(region.to_owned()), dialed: Some("911".to_owned()) };
        let failure = run(&options("UK")).unwrap_err();
        assert!(failure.code() == 64 && failure.to_string().contains("`UK`"), "{failure}");
        assert!(run(&options("gb")).is_ok());
    }
}
