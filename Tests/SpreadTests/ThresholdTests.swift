// The threshold, against the words of the claim.

import Spread
import Testing

@Suite struct ThresholdTests {
    @Test(arguments: [(0, 3, 0), (1, 3, 1), (3, 3, 1), (4, 3, 2), (10, 1, 10)])
    func isRoundedUp(_ total: UInt64, _ devices: Int, _ expected: UInt64) {
        #expect(Threshold.bytes(total: total, available: devices) == expected)
    }

    @Test func needsADevice() { #expect(Threshold.bytes(total: 1, available: 0) == nil) }
}
