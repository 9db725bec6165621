// logdisk spread run: writes a set on all devices at once.

import ArgumentParser
import CLinux
import CommandText
import DiskIO
import Foundation
import Spread

struct SpreadRunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Write sources as a set on several devices at once.",
        discussion: """
            Nothing of the set is visible before all of it is on the devices. A run that was \
            interrupted goes on where it was when the same command is given again. A device that \
            fails meanwhile is left out, and what is not elsewhere goes to the others: the end is \
            0, or 3 with a list of what is missing.
            """)

    @OptionGroup var sources: SourceArguments
    @OptionGroup var devices: DeviceArguments

    @Option(help: ArgumentHelp("What the set is called.", valueName: "NAME"))
    var set: String

    @Option(
        help: ArgumentHelp("Carry out this plan, made by spread plan.", valueName: "FILE"))
    var plan: String?

    @OptionGroup var planning: PlanArguments

    @Option(help: ArgumentHelp("Write to so many devices at once; all without it.", valueName: "N"))
    var parallel: Int?

    @Flag(help: "Write again what a failed device held, even where another copy exists.")
    var alsoRewriteWritten = false

    @Option(
        help: ArgumentHelp(
            "Take a device as gone that does not answer so long.",
            valueName: "DURATION"))
    var timeout = "5m"

    @Option(help: ArgumentHelp("Write each event there, as lines of JSON.", valueName: "FILE"))
    var events: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        if let fault = SetIdentity.fault(ofName: set) {
            throw CommandFailure(
                .usage, "", "--set '\(set)' is no name for a set", cause: fault,
                hint: "for example --set monday")
        }
        let given = try plan.map { path throws(CommandFailure) in try PlanFile.read(path) }
        let texts = try sourceTexts(given)
        var options = try options(texts, given)
        let opened = try devices.opened()
        var scanned = try sources.scanned(texts, on: opened.map(\.spec))
        scanned.readDetails { Interruption.isRequested }
        try Interruption.check()
        if given == nil, planning.itemCost == nil { measure(opened, scanned, &options) }
        let job: SpreadJob
        do throws(JobFailure) {
            job = try SpreadJob.prepare(
                set, scanned, opened.map(\.device), SpreadDevice.devices(opened.map(\.spec)),
                options.plan, given: given)
        } catch {
            throw CommandFailure(error, set: set)
        }
        if job.isOnlyCommit { return try onlyCommit(job) }
        say(job)
        try carryOut(job, options)
    }

    // MARK: - before

    private func options(
        _ texts: [String], _ given: SpreadPlanFile?
    ) throws(CommandFailure) -> RunOptions {
        var options = RunOptions()
        options.plan = try planning.options(sources: texts, isList: false)
        if let given { options.plan = given.options }
        if let parallel, parallel < 1 {
            throw CommandFailure(
                .usage, "", "--parallel \(parallel) is not possible", hint: "1 or more")
        }
        options.parallel = parallel
        options.alsoRewriteWritten = alsoRewriteWritten
        options.timeoutSeconds = Double(try OptionText.duration(timeout, "--timeout"))
        return options
    }

    private func sourceTexts(_ given: SpreadPlanFile?) throws(CommandFailure) -> [String] {
        guard let given else { return sources.names }
        guard sources.names.isEmpty || sources.names == given.sources.names else {
            throw CommandFailure(
                .usage, "", "these are not the sources of the plan",
                cause: "planned: \(given.sources.names.joined(separator: " "))",
                hint: "leave the sources out: the plan names them")
        }
        return given.sources.names
    }

    /// Below so many files what a file costs changes nothing.
    private static let measuredFilesMin = 1000

    /// What a file costs, measured on the devices where the mode counts it.
    private func measure(
        _ opened: [(spec: DeviceSpec, device: BackupDevice)], _ scanned: ScannedSources,
        _ options: inout RunOptions
    ) {
        let files = scanned.sources.reduce(0) { $0 + $1.table.rows.count { $0.isFile } }
        guard options.plan.mode == .balanced, files >= Self.measuredFilesMin else { return }
        let cost = ItemCost.measured(
            opened.map { ($0.device, $0.spec.rate) }, isCancelled: { Interruption.isRequested })
        guard let cost else { return }
        options.plan.itemCost = cost
        if !output.json {
            Terminal.error("measured: a file costs as much as \(ByteSize(bytes: cost)) of bytes")
        }
    }

    private func say(_ job: SpreadJob) {
        guard !output.json else { return }
        if job.devices.count == 1 {
            Terminal.warn("one device: nothing is spread, and nothing survives its loss")
        }
        for device in job.devices {
            guard let failure = device.failure else { continue }
            Terminal.warn("\(device.device.name) is \(failure.word): \(failure.reason)")
        }
        if let resumed = job.resumed {
            Terminal.error(
                "set \(set): going on; \(resumed.items.count) items are on the devices already")
        }
    }

    private func onlyCommit(_ job: SpreadJob) throws {
        for device in job.devices {
            do throws(DeviceFailure) {
                try device.device.commitLeft(set)
            } catch {
                throw CommandFailure(
                    .failed, set, "\(device.device.name) could not be completed",
                    cause: error.reason, hint: "give the same command again")
            }
        }
        Terminal.out("set \(set): complete; the interrupted run had only its end missing")
    }

    // MARK: - the run

    private func carryOut(_ job: SpreadJob, _ options: RunOptions) throws {
        let log = try events.map { path throws(CommandFailure) in try EventLog(path) }
        let isQuiet = output.json
        let run = SpreadRun(job.identity, job.sources, job.devices, options) { event in
            log?.write(event)
            if !isQuiet, let line = SpreadWords.line(event) { Terminal.error(line) }
        }
        let control = RunControl(set: set, devices: job.devices.map(\.device.name))
        let ended = DispatchSemaphore(value: 0)
        let outcome = RunOutcome()
        let start = ContinuousClock.now
        Thread.detachNewThread {
            outcome.report = run.run(job.plan, job.origins, resuming: job.resumed)
            ended.signal()
        }
        let progress = SpreadProgress(isSilent: isQuiet)
        var isCancelled = false
        while ended.wait(timeout: .now() + .milliseconds(100)) == .timedOut {
            for name in control?.requests() ?? [] {
                _ = run.fail(name, reason: "declared failed by the operator")
            }
            if Interruption.isRequested, !isCancelled {
                isCancelled = true
                run.cancel()
            }
            progress.show(run.progress())
        }
        progress.finish()
        control?.end()
        guard var report = outcome.report else { return }
        if isCancelled, !report.isComplete {
            throw CommandFailure(
                .interrupted, set, "interrupted", cause: "nothing of the set is visible",
                hint: "the same command goes on; logdisk spread forget drops what is there")
        }
        for (source, what) in job.sources.unreadable {
            let name = job.sources.sources[source].name
            report.missing.append(
                .init(
                    path: Spread.PathText.text(
                        name + (what.path.isEmpty ? [] : [0x2F] + what.path)),
                    offset: 0, size: 0, reason: what.reason))
        }
        try tell(report, options, seconds: start.seconds(to: .now))
    }

    private func tell(
        _ report: SpreadReport, _ options: RunOptions, seconds: Double
    ) throws {
        if output.json {
            try Terminal.json(
                SpreadRunJSON(
                    set: set, report, itemCost: options.plan.itemCost, seconds: seconds))
        } else if report.isComplete {
            Terminal.out(SpreadWords.text(set, report, seconds: seconds))
        }
        guard report.isComplete else {
            throw CommandFailure(
                .failed, set, "no set was made", cause: SpreadWords.failures(report),
                hint: "the same command goes on when the devices are there again")
        }
        guard report.missing.isEmpty else {
            throw ReportedFailure(
                status: .incomplete, message: SpreadWords.missing(set, report.missing))
        }
    }

    private final class RunOutcome: @unchecked Sendable {
        // @unchecked: written before the semaphore is signalled, read after it was waited for.
        var report: SpreadReport?
    }
}
