/**
 * Reading the conditions that a status lists, of whatever kind. Used by controllers (through the SDK) and by the API server.
 */

export const conditionOf = <C extends { readonly type: string }>(
  conditions: readonly C[] | undefined,
  type: string,
): C | undefined => conditions?.find((condition) => condition.type === type);

/** Neither a condition that is not there nor one of status Unknown holds. */
export const conditionHolds = (
  conditions: readonly { readonly type: string; readonly status: string }[] | undefined,
  type: string,
): boolean => conditionOf(conditions, type)?.status === 'True';
