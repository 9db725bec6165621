// logdisk spread plan: which bytes of which file go to which device; as a table, as JSON, as a
// picture, and as a file that can be reviewed and run later. Writes nothing to any device.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import History
import Spread

struct SpreadPlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Plan what goes to which device, without writing anything there.",
        discussion: """
            Modes: balanced (no device gets more than its share and 4 KiB; cuts fewer files than \
            there are devices), split-first (files above the threshold are split, then the \
            largest goes to the then least filled device), small-first (small files, then large \
            ones by the space remaining).

              logdisk spread plan /srv --device dir:/mnt/a --device 'dir:/mnt/b?weight=2'
              logdisk spread plan /srv --device dir:/mnt/a --device dir:/mnt/b --output srv.plan
              find /srv -type f -printf '%s %P\\n' | logdisk spread plan --sizes-from - --device …

            Paths in JSON are plain UTF-8; a byte that is not is written as \\u0000 and two \
            hexadecimal digits.
            """)

    @OptionGroup var sources: PlanningSources
    @OptionGroup var devices: DeviceArguments
    @OptionGroup var division: PlanArguments

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Write the plan, for logdisk spread run --plan.", valueName: "PLAN"))
    var output: String?

    @Option(help: ArgumentHelp("Write a picture of the plan.", valueName: "FILE"))
    var svg: String?

    @Flag(help: "Replace existing files.")
    var force = false

    @OptionGroup var options: OutputOptions

    func run() throws {
        let job = try PlanningJob(sources, devices)
        let planFile = try output.map { name throws(CommandFailure) in try place(name) }
        let picture = try svg.map { name throws(CommandFailure) in try place(name) }
        if division.mode != .balanced, let spec = job.specs.first(where: { $0.weight != nil }) {
            throw CommandFailure(
                .usage, spec.name, "weight= needs the mode balanced",
                cause: "\(division.mode.rawValue) counts bytes alone",
                hint: "leave it out, or plan with --mode balanced")
        }
        let asked = try division.options(
            sources: sources.names, isList: sources.sizesFrom != nil)
        let plan: SpreadPlan
        do throws(SpreadError) {
            plan = try SpreadPlanner.plan(job.list, over: job.devices, asked)
        } catch {
            throw CommandFailure(error, object: "plan")
        }
        if job.devices.count == 1 { Terminal.warn("one device: nothing is spread") }
        if !plan.sitesDiffer {
            Terminal.warn("some copies share a site: the others have not enough room")
        }
        if sources.sizesFrom != nil { Interruption.begin() }  // a scan has begun it
        if let planFile { try write(plan, job, .file(asked), to: planFile) }
        if let picture { try write(SpreadText.picture(plan, job, name), to: picture) }
        if options.json {
            try plan.writeJSON(job.list, .result) { bytes throws(CommandFailure) in
                try Interruption.check()
                Terminal.write(bytes, to: STDOUT_FILENO)
            }
        } else {
            Terminal.out(SpreadText.table(plan, job))
            if let output { Terminal.out("\(output): the plan") }
            if let svg { Terminal.out("\(svg): a picture") }
        }
        try job.end()
    }

    /// What is planned, for the picture.
    private var name: String {
        sources.sizesFrom ?? sources.names.joined(separator: ", ")
    }

    private func place(_ name: String) throws(CommandFailure) -> String {
        if !force, DiskStorage().exists(name) {
            throw CommandFailure(
                .usage, name, "it exists", hint: "choose another name, or add --force")
        }
        return name
    }

    private func write(
        _ plan: SpreadPlan, _ job: PlanningJob, _ form: SpreadPlan.JSONForm, to path: String
    ) throws(CommandFailure) {
        try translating(path) {
            let file = try UnfinishedFile(path, in: DiskStorage(), replacing: force)
            try plan.writeJSON(job.list, form) { bytes throws(HistoryError) in
                if Interruption.isRequested { throw .cancelled }
                try file.append(bytes)
            }
            try file.commit()
        }
    }

    private func write(_ text: String, to path: String) throws(CommandFailure) {
        try translating(path) {
            let file = try UnfinishedFile(path, in: DiskStorage(), replacing: force)
            try file.append(Array(text.utf8))
            try file.commit()
        }
    }
}
