// The simulator from the command line; called by tools/simulate. Runs lifetimes of consecutive
// seeds on all processors and prints what breaks.

import Foundation
import LogFormat
import Simulator

/// What the command was asked for.
struct Arguments {
    var seeds: UInt64 = 10_000
    var first: UInt64 = 1
    var threads = ProcessInfo.processInfo.activeProcessorCount
    var failuresMax = 20
    var showsCoverage = false
    var fault: Fault?

    static let usage = """
        usage: simulate [--seeds N] [--seed FIRST] [--threads N] [--failures N]
                        [--coverage] [--fault NAME]

          --seeds N     how many lifetimes (10000; 1 where a first seed is given)
          --seed FIRST  the first seed (1)
          --threads N   lifetimes at once (all processors)
          --failures N  stop after so many broken promises (20)
          --coverage    print how often what happened
          --fault NAME  switch a deliberate fault on (test builds only): \
        \(Fault.allCases.map { "\($0)" }.joined(separator: " "))
        """

    init?(_ words: [String]) {
        var rest = words[...]
        while let word = rest.popFirst() {
            switch word {
            case "--coverage": showsCoverage = true
            case "--seeds", "--seed", "--threads", "--failures":
                guard let value = rest.popFirst().flatMap({ UInt64($0) }) else { return nil }
                switch word {
                case "--seeds": seeds = value
                case "--seed": first = value
                case "--threads": threads = max(1, Int(clamping: value))
                default: failuresMax = max(1, Int(clamping: value))
                }
            case "--fault":
                guard let name = rest.popFirst(),
                    let found = Fault.allCases.first(where: { "\($0)" == name })
                else { return nil }
                fault = found
            default: return nil
            }
        }
        if words.contains("--seed"), !words.contains("--seeds") { seeds = 1 }
    }
}

guard let arguments = Arguments(Array(CommandLine.arguments.dropFirst())) else {
    FileHandle.standardError.write(Data((Arguments.usage + "\n").utf8))
    exit(64)
}
if let fault = arguments.fault {
    #if DELIBERATE_FAULTS
        Fault.set([fault])
    #else
        print("\(fault) exists only in builds with LOGDISK_TEST_BUILD=1")
        exit(64)
    #endif
}
let start = ContinuousClock.now
let result = Simulation.run(
    seeds: arguments.first..<arguments.first + arguments.seeds, threads: arguments.threads,
    failuresMax: arguments.failuresMax)
let seconds = Double((ContinuousClock.now - start) / .milliseconds(1)) / 1000
if arguments.showsCoverage {
    for (name, count) in result.coverage.counts.sorted(by: { $0.key < $1.key }) {
        print("\(count)\t\(name)")
    }
}
for failure in result.failures.prefix(10) { print(failure, terminator: "\n\n") }
print(
    "\(result.coverage.lives) lifetimes in \(seconds) s, \(result.failures.count) broken promises")
exit(result.failures.isEmpty ? 0 : 1)
