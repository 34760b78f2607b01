import type { AuditEntry } from '../../src/statefsd/index.ts';

/** An allowed put that was done. */
export const ENTRY: AuditEntry = {
  decision: 'allow',
  subject: 'updated',
  operation: 'put_atomic',
  path: '/state/boot/bootctl',
  size: 16,
  digest: 'ab'.repeat(32),
  code: 'OK',
  duration: 3,
};
