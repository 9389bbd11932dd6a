//! The check of the sum of weights.

use super::{F32, average, checkpoints, data, members, merge, plain, refused, write};
use stockpot::engine::merge::{check_weights, normalized};

#[test]
fn weights_must_sum_to_1_unless_normalized() {
    check_weights(&[1.5, -0.5]).unwrap();
    check_weights(&[1.0 / 3.0; 3]).unwrap();
    check_weights(&[0.5, 0.5 + 9e-7]).unwrap();
    refused(check_weights(&[0.5, 0.4]), &["sum to 1", "0.9", "--normalize"]);
    refused(check_weights(&[0.5, 0.5 + 2e-6]), &["sum to 1", "--normalize"]);
    refused(check_weights(&[f64::NAN, 1.0]), &["finite", "NaN"]);
    refused(check_weights(&[]), &["at least one"]);
    assert_eq!(normalized(&[1.0, 3.0]).unwrap(), [0.25, 0.75]);
    refused(normalized(&[1.0, -1.0]), &["cannot be normalized", "0"]);

    let (dir, paths, stored) = checkpoints(&[F32, F32]);
    let out = dir.path().join("out");
    let given = members(&paths, &[1.0, 3.0]);
    let error = merge(&given, &out, None).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    refused::<()>(Err(error), &["4", "--normalize"]);
    refused(average(&given), &["4", "--normalize"]);
    assert!(!out.exists());
    let report = write(&given, &out, None, true).unwrap().weights;
    assert_eq!((report.members[1].given, report.members[1].weight, report.normalized), (3.0, 0.75, true));
    let expected: Vec<u8> = plain(&stored, &[0.25, 0.75]).iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    assert!(data(&out) == expected);
}
