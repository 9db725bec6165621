// The search of bisect: exact and quick where every candidate can be judged, honest where not.

import DiskIO
import History
import Testing

@Suite struct BisectionTests {
    /// Every count, every place where it goes bad.
    @Test func findsTheFirstBadOne() {
        for count in 0..<70 {
            for firstBad in 0...count {
                var search = Bisection(count: count)
                var tries = 0
                while let next = search.next {
                    search.judge(next < firstBad ? .good : .bad)
                    tries += 1
                }
                #expect(search.good == firstBad - 1 && search.bad == firstBad)
                #expect(search.undecided == [])
                #expect(tries <= Bisection.triesMax(count: count), "\(count) \(firstBad)")
            }
        }
    }

    @Test func triesAreTheLogarithm() {
        let table = [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (1_000_000, 20)]
        for (count, tries) in table { #expect(Bisection.triesMax(count: count) == tries) }
    }

    /// Whatever is skipped: never twice the same try, and the first bad one is the one found or one
    /// of those that were skipped just before it.
    @Test(arguments: UInt64(0)..<200) func goesAroundSkips(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let count = random.below(60)
        let firstBad = random.below(count + 1)
        let share = [0.0, 0.1, 0.5, 0.9, 1][random.below(5)]
        let skipped = Set((0..<count).filter { _ in random.chance(share) })
        var search = Bisection(count: count)
        var tried: Set<Int> = []
        while let next = search.next {
            #expect(next > search.good && next < search.bad)
            #expect(tried.insert(next).inserted, "\(next) is tried twice")
            search.judge(skipped.contains(next) ? .skip : next < firstBad ? .good : .bad)
        }
        #expect(search.good < firstBad && firstBad <= search.bad)
        #expect(search.undecided == Array(search.good + 1..<search.bad))
        #expect(search.undecided.allSatisfy { skipped.contains($0) })
        if skipped.count == count { #expect(tried.count == count) }
        if skipped.isEmpty { #expect(tried.count <= Bisection.triesMax(count: count)) }
    }

    /// Verdicts without order: it ends, with a good one right before a bad one.
    @Test(arguments: UInt64(0)..<100) func endsWhateverIsSaid(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let count = random.below(200)
        var search = Bisection(count: count)
        var verdicts: [Int: Bisection.Verdict] = [-1: .good, count: .bad]
        while let next = search.next {
            let verdict: Bisection.Verdict = [.good, .bad, .skip][random.below(3)]
            verdicts[next] = verdict
            search.judge(verdict)
        }
        #expect(verdicts[search.good] == .good && verdicts[search.bad] == .bad)
        for between in search.good + 1..<search.bad { #expect(verdicts[between] == .skip) }
    }
}
