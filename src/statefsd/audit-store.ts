import { codeOf } from '../core/index.ts';
import type { StoreEvent } from '../statefs/index.ts';
import type { Audit } from './audit.ts';

/**
 * Records what a store tells of itself, where somebody may have to answer for it: damage and what was put right, a latch,
 * a quota, compaction that was given up. What is slow or comes to its end as it should is in the figures.
 */
export function auditStore(audit: Audit, event: StoreEvent): void {
  switch (event.type) {
    case 'damage':
      tellEach(audit, 'damage', 'EINTEGRITY', event.damage.keys);
      break;
    case 'superblock':
      audit.tell('store', 'superblock', 'EINTEGRITY');
      break;
    case 'scrub-damage':
    case 'scrub-mended':
      tellEach(audit, event.type, event.type === 'scrub-damage' ? 'EINTEGRITY' : 'OK', event.finding.keys);
      break;
    case 'quota':
      audit.tell('store', 'quota', 'OK', event.prefix);
      break;
    case 'compaction':
      if (event.phase === 'abandoned') audit.tell('store', 'compaction', codeOf(event.error) ?? 'EIO');
      break;
    case 'latched':
      audit.tell('store', 'latched', codeOf(event.error) ?? 'EIO');
      break;
    default:
  }
}

/** A record for each key; one without, where none is known. */
function tellEach(audit: Audit, operation: string, code: string, keys: readonly string[]): void {
  for (const key of keys.length === 0 ? [''] : keys) audit.tell('store', operation, code, key);
}
