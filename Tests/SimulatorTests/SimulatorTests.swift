// The simulator over 10,000 seeds; that a seed reproduces; and that the simulator bites: each of
// the deliberate faults is found.

import Foundation
import LogFormat
import Simulator
import Testing

/// Seeds that broke a promise once, under the code of their day. What a seed does changes with the
/// simulator, so these are a habit rather than a proof; the faults they found have tests of their
/// own where that could be (RecoveryTests, LogWriterTests, NewestPartsTests).
private let regressionSeeds: [UInt64] = [
    25, 40, 78, 83, 94, 127, 128, 154, 163, 169, 173, 174, 180, 183, 192, 276, 345, 353, 354, 382,
    986, 1036, 1416, 1418, 1940, 3204,
]

@Suite struct SimulatorTests {
    @Test func seedsThatFailedOnce() {
        for seed in regressionSeeds {
            #expect(throws: Never.self) { _ = try Simulation.run(seed: seed) }
        }
    }

    @Test func tenThousandLifetimes() {
        let result = Simulation.run(seeds: 1..<10_001, threads: 2, failuresMax: 3)
        for failure in result.failures { Issue.record("\(failure)") }
        // A simulator in which nothing happens proves nothing.
        for (what, least) in [
            ("power cut", 10_000), ("kill", 2_000), ("crash in recovery", 1_000),
            ("crash in creation", 500), ("snapshot", 3_000), ("view", 10_000), ("replay", 3_000),
            ("refused write", 2_000), ("no space", 1_000), ("damaged log", 200),
            ("damaged superblock", 100), ("damaged segment", 80), ("large zero", 1_000),
            ("lost unacknowledged records", 5_000),
        ] { #expect(result.coverage.counts[what, default: 0] >= least, "\(what)") }
    }

    @Test func aSeedReproducesExactly() {
        for seed: UInt64 in 1...40 {
            let first = Simulation.story(seed: seed)
            #expect(!first.isEmpty)
            #expect(first == Simulation.story(seed: seed), "seed \(seed)")
        }
    }

    /// In a process of its own: a fault is on for the whole process, where other tests run.
    @Test(arguments: Fault.allCases) func eachDeliberateFaultIsFound(_ fault: Fault) throws {
        let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let process = Process()
        process.executableURL = own.deletingLastPathComponent().appendingPathComponent("simulate")
        process.arguments = [
            "--fault", "\(fault)", "--seed", "1", "--seeds", "2000", "--failures", "1",
        ]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        // 1: a promise was broken. 0: the fault was not found; 64: not a test build.
        #expect(process.terminationStatus == 1, "\(text.suffix(2000))")
        #expect(text.hasPrefix("seed "))
    }
}
