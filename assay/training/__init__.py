"""Training: policy 0, batches from the record, the update by TRL's trainer, published policies. Modules are imported one by one."""
