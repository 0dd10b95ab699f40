"""Everything that an author of a method needs, in one place; `paibench.methods` has the same names.

This module imports torch; `paibench.methods` imports it on the first use of one of its names.
"""

from paibench.methods.core.mask import Mask as Mask
from paibench.methods.core.mask import MaskHistory as MaskHistory
from paibench.methods.core.mask import Weights as Weights
from paibench.methods.core.mask import apply as apply
from paibench.methods.core.mask import apportion as apportion
from paibench.methods.core.mask import density as density
from paibench.methods.core.mask import flatten as flatten
from paibench.methods.core.mask import full as full
from paibench.methods.core.mask import keep_top as keep_top
from paibench.methods.core.mask import keep_top_per_layer as keep_top_per_layer
from paibench.methods.core.mask import layer_counts as layer_counts
from paibench.methods.core.mask import num_kept as num_kept
from paibench.methods.core.mask import prunable as prunable
from paibench.methods.core.mask import top as top
from paibench.methods.core.mask import total as total
from paibench.methods.core.mask import unflatten as unflatten
from paibench.methods.core.registry import UserError as UserError
from paibench.methods.core.registry import get as get
from paibench.methods.core.registry import names as names
from paibench.methods.core.scoring import losses as losses
from paibench.methods.core.scoring import scoring_copy as scoring_copy
from paibench.methods.core.task import Task as Task
from paibench.methods.core.ticket import Channels as Channels
from paibench.methods.core.ticket import FinderOutput as FinderOutput
from paibench.methods.core.ticket import Scores as Scores
from paibench.methods.core.ticket import Ticket as Ticket
from paibench.methods.core.ticket import as_ticket as as_ticket
from paibench.methods.core.ticket import select as select
from paibench.methods.supermasks.supermask import Supermask as Supermask
from paibench.methods.supermasks.supermask import cache_name as cache_name
from paibench.methods.supermasks.supermask import masked as masked
from paibench.methods.topology.channels import smaller as smaller
from paibench.methods.training.data import Images as Images
from paibench.methods.training.recipe import Recipe as Recipe
from paibench.methods.training.services import State as State
