// The rate over any second stays within the bound and its burst.

import Shipping
import Testing

@Suite struct TokenBucketTests {
    @Test(arguments: [1_000, 50_000_000 as UInt64]) func keepsTheRate(_ rate: UInt64) {
        var bucket = TokenBucket(bytesPerSecond: rate)
        var now: Int64 = 0
        var sent = 0
        let piece = Int(rate / 37) + 1
        while now < 10_000_000_000 {
            now += bucket.take(piece, now: now)
            sent += piece
        }
        #expect(Double(sent) <= Double(rate) * 10.2 + Double(piece))
        #expect(Double(sent) >= Double(rate) * 9.8)
    }
}
