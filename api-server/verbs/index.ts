/** The verbs by name, as `server.ts` dispatches them. */
import type { Call } from '../call.ts';
import type { RequestVerb } from '../request.ts';
import { create } from './create.ts';
import { deleteCollection, deleteOne } from './delete.ts';
import { get } from './get.ts';
import { list } from './list.ts';
import { patch } from './patch.ts';
import { update } from './update.ts';
import { watch } from './watch.ts';

export const verbs: Readonly<Record<RequestVerb, (call: Call) => Promise<void>>> = {
  get,
  list,
  watch,
  create,
  update,
  patch,
  delete: deleteOne,
  deletecollection: deleteCollection,
};
