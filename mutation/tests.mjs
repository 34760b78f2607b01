import { tmpdir } from 'node:os';
import { join } from 'node:path';

// Which tests judge which sources. Quick ones first: a run ends at the first test that fails. Left out is what is slow and
// finds nothing that is not found before it: processes, sockets, the service, endurance, whole explorations.

export const FOLDERS = {
  'src/envelope': {
    quick: ['test/envelope/envelope.test.ts', 'test/envelope/sha256.test.ts', 'test/property/envelope.test.ts'],
    slow: [],
  },
  'src/faults': {
    quick: [
      'test/faults/version-index.test.ts',
      'test/faults/version-nodes.test.ts',
      'test/faults/version-pool.test.ts',
      'test/faults/version-lists.test.ts',
      'test/faults/slot-table.test.ts',
      'test/faults/sector-index.test.ts',
      'test/faults/image-count.test.ts',
      'test/faults/profiles.test.ts',
      'test/faults/latency.test.ts',
      'test/faults/choices.test.ts',
      'test/faults/media.test.ts',
      'test/faults/media-overlay.test.ts',
      'test/faults/disk-state.test.ts',
      'test/faults/simulated-disk.test.ts',
    ],
    slow: [
      'test/blockdev/conformance.test.ts',
      'test/explore/model-stores.test.ts',
      'test/explore/differential.test.ts',
    ],
  },
  'src/statefs': {
    quick: [
      'test/statefs/guards.test.ts',
      'test/statefs/checksum.test.ts',
      'test/statefs/memory.test.ts',
      'test/statefs/geometry.test.ts',
      'test/statefs/options.test.ts',
      'test/statefs/keys.test.ts',
      'test/statefs/space.test.ts',
      'test/statefs/payload.test.ts',
      'test/statefs/group.test.ts',
      'test/statefs/calls.test.ts',
      'test/statefs/log-writer.test.ts',
      'test/statefs/space-keeper.test.ts',
      'test/statefs/format.test.ts',
      'test/statefs/store.test.ts',
      'test/statefs/recovery-table.test.ts',
      'test/statefs/recovery.test.ts',
      'test/statefs/quota.test.ts',
      'test/statefs/snapshot.test.ts',
      'test/statefs/golden.test.ts',
      'test/statefs/inspect.test.ts',
      'test/statefs/findings.test.ts',
      'test/statefs/fsck.test.ts',
      'test/statefs/transaction.test.ts',
      'test/statefs/compaction.test.ts',
      'test/statefs/damage.test.ts',
      'test/statefs/superblock.test.ts',
      'test/statefs/superblock-pair.test.ts',
      'test/statefs/events.test.ts',
      'test/statefs/scrub.test.ts',
      'test/statefs/export.test.ts',
      'test/statefs/group-commit.test.ts',
    ],
    slow: ['test/property/statefs-years.test.ts', 'test/testing/media.test.ts', 'test/testing/repair.test.ts'],
  },
};

/** Single tests that take seconds each, in files that are quick without them. */
export const SLOW_TESTS = new Set([
  'anywhere in a cleanly closed image gives the right bytes or EINTEGRITY, for one key at most',
  'in an image that was not closed never gives wrong bytes: only the last record may count as torn',
  'is clean exactly where nothing live depends on it; what is lost is named, all else reads',
  'gives the right bytes or EINTEGRITY, for one key at most',
  'is reused: a disk that is rewritten for ever does not grow',
  'harsh, huge: false, memory used again: true',
  'harsh, huge: false, memory used again: false',
  'harsh, huge: true, memory used again: true',
  'harsh, huge: true, memory used again: false',
]);

/** Where the runs of one folder keep their files: outside of the repository. */
export function workFiles(folder) {
  const under = join(tmpdir(), 'powercut-mutants', folder.replaceAll('/', '-'));
  return {
    sandbox: join(under, 'sandbox'),
    incremental: join(under, 'incremental.json'),
    report: join(under, 'report.json'),
  };
}
