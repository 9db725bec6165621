// The search of `bisect` with everything around it: past images, the command that judges, what is
// shown of each try, and the lease that keeps history where it is meanwhile.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History

/// What a search came to.
struct BisectFinding: Encodable {
    struct Try: Encodable {
        var lsn: UInt64
        var time: String
        var verdict: String
        var exitCode: Int32

        enum CodingKeys: String, CodingKey {
            case lsn, time, verdict
            case exitCode = "exit_code"
        }
    }
    /// The last good and the first bad one of those tried.
    var good: StampJSON
    var bad: StampJSON
    /// How many points lie between the two that were given.
    var candidates: Int
    var tries: [Try]
    /// LSNs between `good` and `bad` of which the command could not tell.
    var undecided: [UInt64]
}

struct BisectSearch {
    private let history: HistoryCatalogue
    private let candidates: BisectCandidates
    private let check: CheckCommand
    private let object: String
    private let isSilent: Bool

    private static let skipCode: Int32 = 125
    private static let notFoundCode: Int32 = 127
    private static let badCodeMax: Int32 = 127

    init(
        _ history: HistoryCatalogue, _ candidates: BisectCandidates, _ check: CheckCommand,
        object: String, isSilent: Bool
    ) {
        self.history = history
        self.candidates = candidates
        self.check = check
        self.object = object
        self.isSilent = isSilent
    }

    /// Tries both ends, then what is between.
    func run(good first: Stamp, bad last: Stamp) throws(CommandFailure) -> BisectFinding {
        var tries: [BisectFinding.Try] = []
        let atFirst = try judge(first, "--good", &tries)
        guard atFirst == .good else { throw wrongEnd(first, isGood: true, atFirst) }
        let atLast = try judge(last, "--bad", &tries)
        guard atLast == .bad else { throw wrongEnd(last, isGood: false, atLast) }
        var search = Bisection(count: candidates.count)
        let most = Bisection.triesMax(count: candidates.count)
        var (good, bad) = (first, last)
        while let number = search.next {
            let stamp = try stamp(of: candidates[number])
            let verdict = try judge(stamp, "\(tries.count - 1) of \(most)", &tries)
            search.judge(verdict)
            switch verdict {
            case .good: good = stamp
            case .bad: bad = stamp
            case .skip: break
            }
        }
        return BisectFinding(
            good: StampJSON(good), bad: StampJSON(bad), candidates: candidates.count, tries: tries,
            undecided: search.undecided.map { candidates[$0].rawValue })
    }

    private func stamp(of lsn: LSN) throws(CommandFailure) -> Stamp {
        try translating(object) { try history.resolve(.lsn(lsn), now: .max).stamp }
    }

    // MARK: - one try

    private func judge(
        _ stamp: Stamp, _ title: String, _ tries: inout [BisectFinding.Try]
    ) throws(CommandFailure) -> Bisection.Verdict {
        try Interruption.check()
        let ending = try run(at: stamp)
        let (verdict, code) = try verdict(ending, stamp, isFirst: tries.isEmpty)
        tries.append(
            BisectFinding.Try(
                lsn: stamp.lsn.rawValue, time: stamp.time, verdict: verdict.rawValue,
                exitCode: code))
        if !isSilent {
            Terminal.out("\(title): \(stamp.words)  \(verdict.rawValue)")
            fflush(nil)
        }
        return verdict
    }

    private func run(at stamp: Stamp) throws(CommandFailure) -> CheckCommand.Ending {
        let view = try translating(object) { try PointInTimeView(history, at: stamp.lsn) }
        let image = try PastImage(view, object: object)
        let outcome: Result<CheckCommand.Ending, CommandFailure>
        do throws(CommandFailure) {
            outcome = .success(
                try check.run([
                    "LOGDISK_IMAGE": image.path, "LOGDISK_LSN": "\(stamp.lsn)",
                    "LOGDISK_TIME": stamp.time,
                ]))
        } catch { outcome = .failure(error) }
        let failure = image.failure
        do throws(CommandFailure) {
            try image.end()
        } catch {
            // Interrupted is what matters more then.
            guard case .success = outcome else { return try outcome.get() }
            throw CommandFailure(
                error.status, object, "the command has left the past image in use",
                cause: error.what, hint: "let it take away what it mounts and attaches")
        }
        // Its verdict on bytes that it could not read is none.
        if let failure { throw CommandFailure(failure, object: object) }
        return try outcome.get()
    }

    private func verdict(
        _ ending: CheckCommand.Ending, _ stamp: Stamp, isFirst: Bool
    ) throws(CommandFailure) -> (Bisection.Verdict, Int32) {
        let name = check.words[0]
        switch ending {
        case .killed(let signal):
            throw CommandFailure(
                .failed, object, "'\(name)' was killed by signal \(signal)", cause: stamp.words,
                hint: "exit 125 skips a point of which the command cannot tell")
        case .exited(0): return (.good, 0)
        case .exited(Self.skipCode): return (.skip, Self.skipCode)
        case .exited(Self.notFoundCode) where isFirst:
            throw CommandFailure(
                .usage, object, "'\(name)' did not find what it should run", cause: "exit code 127",
                hint: "run it by hand first, with LOGDISK_IMAGE set to any image")
        case .exited(let code) where code <= Self.badCodeMax: return (.bad, code)
        case .exited(let code):
            throw CommandFailure(
                .failed, object, "'\(name)' stopped the search with exit code \(code)",
                cause: stamp.words, hint: "0 is good, 1 to 127 bad, 125 skips the point")
        }
    }

    private func wrongEnd(
        _ stamp: Stamp, isGood: Bool, _ verdict: Bisection.Verdict
    ) -> CommandFailure {
        if verdict == .skip {
            return CommandFailure(
                .failed, object,
                "the command cannot tell of the point of "
                    + (isGood ? "--good" : "--bad"), cause: "exit code 125, \(stamp.words)",
                hint: "give another point of which it can")
        }
        return CommandFailure(
            .failed, object,
            isGood ? "the point of --good is not good" : "the point of --bad is not bad",
            cause: stamp.words,
            hint: isGood
                ? "give an earlier point, or see why the command does not end with 0 there"
                : "give a later point, or see why the command does not end with 1 to 127 there")
    }
}

/// Keeps what a search reads from being pruned. Where no lease can be taken (a history on a disk
/// that can only be read) the search goes on without.
final class BisectLease {
    private let leases: (any LeaseTaker)?
    private var held: (any ReadingLease)?

    /// Protects everything, until it is known what is needed.
    init(_ location: VolumeLocation) {
        leases = try? location.leaseTaker()
        take(nil)
    }

    /// Protects what any point from `first` to `last` needs.
    func narrow(
        to history: VolumeHistory, from first: LSN, through last: LSN
    ) throws(CommandFailure) {
        let catalogue = history.catalogue
        let base = try translating(history.location.object) {
            try PointInTimeView(catalogue, at: first).snapshot
        }
        var names: Set<SegmentName> = [base]
        for segment in catalogue.records
        where segment.last.lsn > base.last && segment.first.lsn <= last {
            names.insert(segment.name)
        }
        for segment in catalogue.snapshots
        where segment.first.lsn >= first && segment.first.lsn <= last {
            names.insert(segment.name)
        }
        let all = held
        take(names)
        all?.release()
    }

    func end() { held?.release() }

    private func take(_ segments: Set<SegmentName>?) {
        guard let leases else { return }
        do {
            held = try leases.hold(
                Lease(purpose: "bisect", holder: "process \(getpid())", segments: segments))
        } catch {
            let why = (error as? IOError)?.reason ?? "\(error)"
            Terminal.warn("no lease on the history: a prune may take it away (\(why))")
        }
    }
}
