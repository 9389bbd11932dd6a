//! Averages over domains.

use super::{domains, members, near, scores};
use stockpot::analysis::*;

#[test]
fn averages_need_all_their_domains() {
    let members = members(&[0, 2]);
    let all = scores(&members, |d| 10.0 + d as f64);
    let perplexity = |name: &str| all[name].perplexity;
    near(perplexity("id"), 12.5, "id");
    near(perplexity("ood"), 16.5, "ood");
    near(perplexity("members"), 11.0, "astronomy and chess");
    near(perplexity("field:games"), 14.5, "chess and yachts: both kinds");
    near(perplexity("field:biology"), 11.0, "botany");
    assert_eq!(all["id"].nats, None);
    near(all["ood"].bits_per_byte, (all["weather"].bits_per_byte + all["yachts"].bits_per_byte) / 2.0, "bits");
    let mut some = all.clone();
    some.remove("yachts");
    let names: Vec<String> = averages(&domains(), &members, &some).into_keys().collect();
    assert_eq!(names, ["field:biology", "id", "members"]);
}
