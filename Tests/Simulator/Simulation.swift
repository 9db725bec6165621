// The simulator: whole lifetimes of volumes on a simulated disk, each decided by one seed, held to
// the promises R1 to R6 of docs/durability.md at every step.
//
//   seed ─► LifePlan ─► Lifetime: create, then random operations and troubles, again and again
//                          │        power cut / kill / close ─► recover ─► compare with the model
//                          └─► BrokenPromise, with the seed and what happened last
//
// A seed reproduces exactly: no wall clock, no other randomness, one thread per lifetime. Used by
// the tests and by tools/simulate; not part of the product.

import LogFormat

/// A promise that did not hold.
public struct BrokenPromise: Error, CustomStringConvertible {
    public var seed: UInt64
    public var message: String
    public var plan: String
    /// The last things that happened, oldest first.
    public var trace: [String]

    public var description: String {
        (["seed \(seed): \(message)", "plan: \(plan)"] + trace.map { "  " + $0 })
            .joined(separator: "\n")
    }
}

/// What lifetimes went through; to see that the simulator does what it should.
public struct Coverage: Sendable {
    public var lives = 0
    public var counts: [String: Int] = [:]

    mutating func note(_ name: String) { counts[name, default: 0] += 1 }

    public mutating func add(_ other: Coverage) {
        lives += other.lives
        counts.merge(other.counts, uniquingKeysWith: +)
    }
}

public enum Simulation {
    /// One lifetime. Throws BrokenPromise.
    public static func run(seed: UInt64) throws(BrokenPromise) -> Coverage {
        let life = Lifetime(seed: seed)
        do {
            try life.run()
        } catch let failure as Failure {
            throw BrokenPromise(
                seed: seed, message: failure.message, plan: life.plan.text, trace: life.trace)
        } catch {
            throw BrokenPromise(
                seed: seed, message: "unexpected error: \(error)", plan: life.plan.text,
                trace: life.trace)
        }
        return life.coverage
    }

    /// The same, and all that happened: to see that a seed reproduces exactly.
    public static func story(seed: UInt64) -> [String] {
        let life = Lifetime(seed: seed)
        do { try life.run() } catch { life.note("\(error)") }
        return life.trace
    }
}

/// Inside a lifetime: an assertion that failed.
struct Failure: Error {
    var message: String
}
