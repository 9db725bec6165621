// A short look-out for the next request before a worker goes to sleep.
//
// A program that waits for each answer sends its next request some microseconds later. Sleeping
// and being woken on another processor takes longer than that, and in a virtual machine, where an
// idle processor must be kicked by the host, up to 50 us: most of what such a write costs. So a
// worker looks out for a while, but only as long as that was worth it lately.

import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// What one worker knows about how soon requests follow each other.
struct Spin {
    private static let nanoseconds: Int64 = 30_000
    private static let creditMax = 16
    /// A look-out in vain costs as much as several good ones gain.
    private static let costOfFailure = 4
    /// Without credit one of so many requests tries again.
    private static let trialEvery = 64

    private var credit = 0
    private var sinceTrial = 0

    /// Returns when a request is there, or when it does not come soon.
    mutating func untilReadable(_ connection: Int32) {
        if credit <= 0 {
            sinceTrial += 1
            if sinceTrial < Self.trialEvery { return }
            sinceTrial = 0
        }
        var entry = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        let end = clinux_monotonic_ns() + Self.nanoseconds
        repeat {
            if poll(&entry, 1, 0) != 0 {
                credit = min(credit + 1, Self.creditMax)
                return
            }
            for _ in 0..<8 { clinux_pause() }
        } while clinux_monotonic_ns() < end
        credit = max(credit - Self.costOfFailure, 0)
    }
}
