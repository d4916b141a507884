//! What a caller may choose about an export: format, detail, and the few habits of an accounting program that differ
//! from company to company. It reads no book and writes no file.

use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Longest name of a tax rate, in bytes.
const TAX_RATE_LIMIT: usize = 80;

/// The program that shall read the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plain-text journal for hledger and ledger-cli
    Hledger,
    /// Plain-text journal for Beancount
    Beancount,
    /// One line a posting, in minor units, and a file of control totals
    Csv,
    /// Journal entries for the import of `QuickBooks` Online
    Quickbooks,
    /// Manual journals for the import of Xero, at most 300 lines a file
    Xero,
}

/// What becomes one journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Each entry of the books
    Record,
    /// Each store, business day and currency; lines in suspense and over/short stay one by one
    Summary,
}

/// How a company writes its dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DateFormat {
    /// 12/31/2026
    Mdy,
    /// 31/12/2026
    Dmy,
    /// 2026-12-31
    Ymd,
}

impl Format {
    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hledger => "hledger",
            Self::Beancount => "beancount",
            Self::Csv => "csv",
            Self::Quickbooks => "quickbooks",
            Self::Xero => "xero",
        }
    }

    /// Programs that book every receipt get summaries; plain text and data keep each record.
    fn usual_detail(self) -> Detail {
        match self {
            Self::Hledger | Self::Beancount | Self::Csv => Detail::Record,
            Self::Quickbooks | Self::Xero => Detail::Summary,
        }
    }
}

/// What a caller said; the rest is decided by [`Form`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Format.
    pub format: Option<Format>,
    /// Detail.
    pub detail: Option<Detail>,
    /// Dates of `QuickBooks`.
    pub date_format: Option<DateFormat>,
    /// Name of Xero's rate without tax.
    pub tax_rate: Option<String>,
}

/// How a batch is written: everything that the bytes depend on beside the entries. It is kept with the batch, so that
/// the batch is given again as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// Format.
    pub format: Format,
    /// Detail.
    pub detail: Detail,
    /// Dates of `QuickBooks`.
    pub date_format: DateFormat,
    /// Name of Xero's rate without tax; without one, the usual name where the currency is at home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_rate: Option<String>,
}

impl Form {
    /// The form of a batch; what was not said is as in `kept`, the form it was cut in, if that is of the same format.
    ///
    /// # Errors
    /// A wish is not one of the format.
    pub fn of(wishes: &Wishes, kept: Option<&Self>) -> Result<Self, Failure> {
        let format = wishes.format.or(kept.map(|kept| kept.format)).unwrap_or(Format::Hledger);
        let misplaced = |option: &str, owner: Format| {
            let name = format.as_str();
            Failure::usage(format!("{option} is for the format {}; leave it out for {name}", owner.as_str()))
        };
        if wishes.date_format.is_some() && format != Format::Quickbooks {
            return Err(misplaced("date format", Format::Quickbooks));
        }
        if wishes.tax_rate.is_some() && format != Format::Xero {
            return Err(misplaced("tax rate", Format::Xero));
        }
        if let Some(name) = &wishes.tax_rate {
            let plain = !name.trim().is_empty() && !name.chars().any(char::is_control);
            if !plain || name.len() > TAX_RATE_LIMIT {
                let message = "tax rate: give the full name of Xero's rate without tax, such as \"No VAT\"";
                return Err(Failure::usage(message));
            }
        }
        let kept = kept.filter(|kept| kept.format == format);
        Ok(Self {
            format,
            detail: wishes.detail.or(kept.map(|kept| kept.detail)).unwrap_or(format.usual_detail()),
            date_format: wishes.date_format.or(kept.map(|kept| kept.date_format)).unwrap_or(DateFormat::Mdy),
            tax_rate: wishes.tax_rate.clone().or(kept.and_then(|kept| kept.tax_rate.clone())),
        })
    }

    /// Whether the detail is not the usual one: file names say so.
    #[must_use]
    pub fn is_unusual(&self) -> bool {
        self.detail != self.format.usual_detail()
    }
}

macro_rules! from_text {
    ($type:ty, $what:literal) => {
        impl FromStr for $type {
            type Err = Failure;

            fn from_str(text: &str) -> Result<Self, Failure> {
                let known = Self::value_variants().iter().filter_map(ValueEnum::to_possible_value);
                let names: Vec<String> = known.map(|value| value.get_name().to_owned()).collect();
                <Self as ValueEnum>::from_str(text, false).map_err(|_| {
                    let shown: String = text.chars().take(40).collect();
                    Failure::usage(format!(
                        concat!("{:?} is not ", $what, "; give {}"),
                        shown,
                        names.join(", ")
                    ))
                })
            }
        }
    };
}

from_text!(Format, "an export format");
from_text!(Detail, "a detail of an export");
from_text!(DateFormat, "a date format");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_it_was_cut_or_as_is_usual() {
        let wishes = Wishes { format: Some(Format::Quickbooks), ..Wishes::default() };
        let usual = Form::of(&wishes, None).unwrap();
        assert_eq!((usual.detail, usual.date_format), (Detail::Summary, DateFormat::Mdy));
        let said =
            Wishes { date_format: Some(DateFormat::Dmy), detail: Some(Detail::Record), ..wishes.clone() };
        let kept = Form::of(&said, None).unwrap();
        assert!(kept.is_unusual());
        assert_eq!(Form::of(&wishes, Some(&kept)).unwrap(), kept);
        assert_eq!(Form::of(&Wishes::default(), Some(&kept)).unwrap(), kept);
        let other = Wishes { format: Some(Format::Csv), ..Wishes::default() };
        assert_eq!(Form::of(&other, Some(&kept)).unwrap().detail, Detail::Record);
        assert_eq!(Form::of(&Wishes::default(), None).unwrap().format, Format::Hledger);
    }

    #[test]
    fn a_wish_in_the_wrong_place_is_refused_and_an_unknown_word_lists_the_known() {
        let dates = Wishes { date_format: Some(DateFormat::Dmy), ..Wishes::default() };
        assert!(Form::of(&dates, None).unwrap_err().message.contains("quickbooks"));
        let rate = |name: &str| Wishes {
            format: Some(Format::Xero),
            tax_rate: Some(name.into()),
            ..Wishes::default()
        };
        assert!(Form::of(&rate(" "), None).is_err());
        assert!(Form::of(&rate("No VAT"), None).is_ok());
        let failure = "sage".parse::<Format>().unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(failure.message.ends_with("give hledger, beancount, csv, quickbooks, xero"), "{failure}");
    }
}
