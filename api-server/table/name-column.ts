/** The first column of every table whose kind names none of its own. */
import type { Column } from '../../api-schemas/schema.ts';

export const NAME_COLUMN: Column = {
  name: 'Name',
  type: 'string',
  format: 'name',
  priority: 0,
  description: 'Name of the object, unique among its kind in its namespace.',
  value: '.metadata.name',
};
