export { decode, encode, MAX_ENVELOPE_BYTES } from './codec.ts';
export { ENVELOPE_ALGORITHM, ENVELOPE_VERSION, type Envelope, verify, wrap } from './envelope.ts';
export { type EnvelopeMetadata, MAX_PURPOSE_BYTES, MAX_SUBJECT_BYTES } from './metadata.ts';
export { createSha256, SHA256_BYTES, type Sha256, sha256 } from './sha256.ts';
