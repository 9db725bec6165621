// logdisk remote probe: finds out what an object storage does, and says what that means here.
// Writes and removes objects below the prefix, and nothing else.

import ArgumentParser
import CommandText
import Foundation
import ObjectStorage
import Shipping

struct RemoteProbe: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "probe", abstract: "Find out what an object storage can do.",
        discussion: """
            Tries with real requests, below the prefix: whether a put can be made to create only, \
            also when several are made at once; reads of parts, listings, uploads in parts, \
            metadata, checksums, deleting, and the clock. Says what each means for logdisk. Exit \
            code 15 where nothing can be kept there.

              logdisk remote probe s3://bucket/prefix --endpoint https://rgw.example \\
                  --credentials keys
            """)

    @Argument(help: ArgumentHelp("s3://BUCKET/PREFIX.", valueName: "URL"))
    var url: String

    @Option(
        help: ArgumentHelp(
            "Trust the certificates in this file, instead of the system's (or LOGDISK_CA).",
            valueName: "FILE"))
    var ca: String?

    @Option(help: ArgumentHelp("Rounds of parallel puts to one key.", valueName: "N"))
    var rounds = 8

    @OptionGroup var object: ObjectOptions

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        guard (1...1000).contains(rounds) else {
            throw CommandFailure(
                .usage, url, "--rounds \(rounds) is out of range", hint: "from 1 to 1000")
        }
        var options = RemoteOptions()
        (options.tokenFile, options.ca, options.keyFile) = (nil, ca, nil)
        options.object = object
        let place = RemotePlace(url: url, options.access)
        let client: ObjectClient
        do throws(RemoteSetupError) {
            client = try ObjectClient(
                ObjectURL(url), access: place.objectAccess { Interruption.isRequested })
        } catch {
            var failure = CommandFailure(error, object: url)
            failure.hint = error.hint ?? place.kind.setupHint
            throw failure
        }
        let report = try asking(url) { () throws(ShipError) in
            try ObjectProbe.run(client, rounds: rounds)
        }
        if output.json {
            try Terminal.json(ProbeJSON(url: url, endpoint: client.place, report))
        } else {
            Terminal.out("\(url) at \(client.place)\n" + ProbeText(report).table)
        }
        guard report.isUsable else {
            throw CommandFailure(
                .refused, url, "no history can be kept there", cause: "see the table",
                hint: "ask who runs the store, or take another")
        }
    }
}

private struct ProbeJSON: Encodable {
    var url: String
    var endpoint: String
    var report: ProbeReport

    init(url: String, endpoint: String, _ report: ProbeReport) {
        (self.url, self.endpoint, self.report) = (url, endpoint, report)
    }

    enum CodingKeys: String, CodingKey {
        case url, endpoint, report, usable, guarded
    }

    func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(url, forKey: .url)
        try values.encode(endpoint, forKey: .endpoint)
        try values.encode(report, forKey: .report)
        try values.encode(report.isUsable, forKey: .usable)
        try values.encode(report.isGuarded, forKey: .guarded)
    }
}

/// What was found, and what it means, for people.
private struct ProbeText {
    private let report: ProbeReport

    init(_ report: ProbeReport) { self.report = report }

    var table: String {
        var table = TextTable([.left, .left, .left])
        table.add(["what", "found", "what it means here"])
        for row in rows { table.add([row.0, row.1, row.2]) }
        return table.text
    }

    private var rows: [(String, String, String)] {
        let races =
            report.raceRounds == 0
            ? "" : ", at most \(report.raceWinnersMax) of 8 at once in \(report.raceRounds) rounds"
        return [
            (
                "create-only put", word(report.createOnly) + races,
                report.isGuarded
                    ? "a second writer is kept away"
                    : "a second writer is not kept away: written only with --single-writer"
            ),
            (
                "the same at the end of parts", word(report.createOnlyParts),
                "no matter: the entry that names an object is a put"
            ),
            (
                "reads of a part", word(report.rangedReads),
                good(report.rangedReads, "blocks are read alone", "needed: nothing can be kept")
            ),
            (
                "uploads in parts", word(report.multipart),
                good(report.multipart, "large segments go in parts", "needed: nothing can be kept")
            ),
            (
                "list after write", word(report.listAfterWrite),
                good(
                    report.listAfterWrite, "opening takes a handful of requests",
                    "no harm: listings are hints; opening may take more requests")
            ),
            (
                "read after delete", word(report.readAfterDelete),
                good(report.readAfterDelete, "what was deleted is gone", "no harm")
            ),
            (
                "metadata", word(report.metadata),
                good(
                    report.metadata, "an upload whose answer was lost is known again",
                    "an upload whose answer was lost is read back or made again")
            ),
            (
                "checksums", word(report.checksums),
                good(
                    report.checksums, "bytes that change on the way are refused at once",
                    "bytes that change on the way are found when they are read")
            ),
            (
                "deleting", word(report.deletes),
                good(report.deletes, "--keep gives room free", "--keep hides, and frees nothing")
            ),
            ("clock", clock, clockMeaning),
        ]
    }

    private func good(_ verdict: ProbeVerdict, _ yes: String, _ no: String) -> String {
        verdict == .honoured ? yes : no
    }

    private func word(_ verdict: ProbeVerdict) -> String {
        switch verdict {
        case .honoured: "yes"
        case .ignored: "ignored silently"
        case .refused: "refused"
        case .unknown: "not known"
        }
    }

    private var clock: String {
        guard let seconds = report.clockDifferenceSeconds else { return "it does not tell" }
        return seconds == 0
            ? "like ours"
            : "\(DurationText(seconds: abs(seconds))) \(seconds > 0 ? "ahead" : "behind")"
    }

    private var clockMeaning: String {
        abs(report.clockDifferenceSeconds ?? 0) < 300
            ? "signatures are accepted" : "most stores refuse from 15 min on: set the clock right"
    }
}
