//! Display forms of numbers, domains and proxies, for sentences, tables and charts.

use super::proxies::Proxy;

/// Four significant digits of a perplexity.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "not finite".into(),
        v if v >= 1e7 => format!("{value:.2e}"),
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A correlation, without a minus sign before zero.
pub fn signed(value: f64) -> String {
    if !value.is_finite() {
        return number(value);
    }
    let text = format!("{value:.3}");
    if text == "-0.000" { "0.000".into() } else { text }
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if !p.is_finite() => "not finite".into(),
        p if p == 0.0 || (10.0..99.5).contains(&p) || p >= 100.0 => format!("{p:.0}%"),
        p if p >= 0.1 => format!("{p:.1}%"),
        p => format!("{p:.2}%"),
    }
}

/// A count with commas: 1,234,567.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "OOD average" for "ood", "field science" for "field:science"; a domain's own name.
pub fn domain_title(domain: &str) -> String {
    match domain {
        "ood" => "OOD average".into(),
        "id" => "ID average".into(),
        "members" => "in-mixture domains".into(),
        name => name.strip_prefix("field:").map_or(name.into(), |field| format!("field {field}")),
    }
}

/// The display name of a proxy, or of another selection rule ("largest", "random").
pub fn proxy_title(proxy: &str) -> String {
    match proxy {
        "largest" | "random" => proxy.into(),
        name => match (Proxy::find(name), name.strip_prefix("target_")) {
            (Some(row), _) => row.title.into(),
            (None, Some(own)) => format!("{} (larger model)", proxy_title(own)),
            (None, None) => name.to_uppercase().replace('_', " "),
        },
    }
}
