/** `stringData` is a write-only convenience: its values go into `data`, in base64. */
import type { Kind } from './kinds.ts';

export const secrets: Kind = {
  beforeDefaults(object) {
    const strings = object['stringData'];
    if (typeof strings !== 'object' || strings === null) return;
    const data = { ...(object['data'] as Record<string, unknown> | undefined) };
    for (const [key, value] of Object.entries(strings)) data[key] = Buffer.from(String(value)).toString('base64');
    object['data'] = data;
    delete object['stringData'];
  },
};
