// Many lifetimes at once: each is one thread's, seeds are handed out one by one.

import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// What a run of many seeds came to.
public struct SimulationResult: Sendable {
    public var coverage = Coverage()
    /// By seed.
    public var failures: [BrokenPromise] = []
}

extension Simulation {
    /// Lifetimes of all seeds on `threads` threads. Stops early after `failuresMax` failures.
    public static func run(
        seeds: Range<UInt64>, threads: Int, failuresMax: Int = 20
    ) -> SimulationResult {
        let work = Work(seeds: seeds, failuresMax: failuresMax)
        var handles: [pthread_t] = []
        for _ in 1..<max(threads, 1) {
            var handle = pthread_t()
            let argument = Unmanaged.passRetained(work).toOpaque()
            let code = pthread_create(
                &handle, nil,
                { argument in
                    guard let argument else { return nil }
                    Unmanaged<Work>.fromOpaque(argument).takeRetainedValue().run()
                    return nil
                }, argument)
            if code == 0 {
                handles.append(handle)
            } else {
                Unmanaged<Work>.fromOpaque(argument).release()
            }
        }
        work.run()
        for handle in handles { pthread_join(handle, nil) }
        return work.result()
    }

    private final class Work: Sendable {
        private let next: Atomic<UInt64>
        private let end: UInt64
        private let failuresMax: Int
        private let found = Mutex(SimulationResult())

        init(seeds: Range<UInt64>, failuresMax: Int) {
            next = Atomic(seeds.lowerBound)
            end = seeds.upperBound
            self.failuresMax = failuresMax
        }

        func run() {
            while true {
                let seed = next.add(1, ordering: .relaxed).oldValue
                guard seed < end else { return }
                do throws(BrokenPromise) {
                    let coverage = try Simulation.run(seed: seed)
                    found.withLock { $0.coverage.add(coverage) }
                } catch {
                    let isEnough = found.withLock { result in
                        result.coverage.lives += 1
                        result.failures.append(error)
                        return result.failures.count >= failuresMax
                    }
                    if isEnough { next.store(end, ordering: .relaxed) }
                }
            }
        }

        func result() -> SimulationResult {
            var result = found.withLock { $0 }
            result.failures.sort { $0.seed < $1.seed }
            return result
        }
    }
}
